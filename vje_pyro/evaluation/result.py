"""One measurement as a file: what was measured, on what, by which code, with which interval."""

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from vje_pyro.atomic import write_atomic
from vje_pyro.errors import VJEError
from vje_pyro.provenance import git_commit, versions

SCHEMA = "vje-pyro-result"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Figure:
    """A number with its interval.

    Args:
        value: The estimate; accuracies are fractions in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many test images, draws or seeds the interval is over.
        interval: What the interval is, in words: ``"95% bootstrap over test images"``.
    """

    value: float
    low: float
    high: float
    n: int
    interval: str


@dataclass
class Result:
    """One run of one versioned protocol on one set of features.

    Args:
        protocol: Name and version, ``"knn-v1"``. A change of definition is a new version.
        dataset: ``name``, the split sizes and the ``digest`` of each split that was used.
        method: Which method made the features (``"vje"``, ``"simsiam"``, ``"pixels"`` …).
        features: Which of the method's features: ``"encoder"``, ``"batch-norm"``, ``"pixels"`` …
        figures: The named figures (``accuracy``, ``accuracy_5`` …).
        seed: Seed of the training run, not of the evaluation (whose seeds the protocol fixes).
        settings: Every number that the protocol's definition leaves to it (``k``, ``C`` …).
        config: The training run's resolved configuration.
        details: What is good to know but not part of the definition (iterations, each draw).
        device: Where the evaluation ran.
        wall_time_s: Seconds the protocol took, without the extraction of features.
        commit: Git commit of the code, with ``-dirty`` for uncommitted changes; None if unknown.
        versions: Versions of Python and of the packages that matter.
        created: UTC time in ISO 8601.
    """

    protocol: str
    dataset: dict[str, Any]
    method: str
    features: str
    figures: dict[str, Figure]
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    wall_time_s: float = 0.0
    commit: str | None = field(default_factory=git_commit)
    versions: dict[str, str | None] = field(default_factory=versions)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def filename(self) -> str:
        """Name of the file by convention: ``<method>-<features>-seed<seed>-<protocol>.json``."""
        return f"{self.method}-{self.features}-seed{self.seed}-{self.protocol}.json"

    def write(self, path: Path | str) -> Path:
        """Write the result as JSON, all or nothing: a failure leaves an older file as it was.

        Raises:
            WriteError: If the file cannot be written.
            ValueError: If a number is NaN or infinite (JSON has neither).
            TypeError: If the config, settings or details hold something JSON cannot.
        """
        content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(path), text)
        return Path(path)

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            VJEError: If the file is missing, not JSON, or not a result of this schema version.
        """
        content = _read_json(Path(path))
        if not isinstance(content, dict):
            raise VJEError(f"{path}: expected a JSON object, found {type(content).__name__}")
        schema = (content.pop("schema", None), content.pop("schema_version", None))
        if schema != (SCHEMA, SCHEMA_VERSION):
            raise VJEError(
                f"{path}: expected schema {SCHEMA!r} version {SCHEMA_VERSION}, found {schema[0]!r} "
                f"version {schema[1]!r}; evaluate the run again with this version of vje-pyro"
            )
        names = {f.name for f in fields(cls)}
        if content.keys() != names:
            raise VJEError(
                f"{path}: not a whole result: missing {sorted(names - content.keys())}, "
                f"unknown {sorted(content.keys() - names)}; evaluate the run again"
            )
        try:
            figures = {name: Figure(**figure) for name, figure in content.pop("figures").items()}
        except (TypeError, AttributeError) as error:
            raise VJEError(
                f"{path}: malformed figures ({error}); evaluate the run again"
            ) from error
        return cls(figures=figures, **content)


def is_result(path: Path | str) -> bool:
    """Whether a JSON file says that it is a result (of any version).

    Raises:
        VJEError: If the file is missing or not JSON.
    """
    content = _read_json(Path(path))
    return isinstance(content, dict) and content.get("schema") == SCHEMA


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VJEError(f"no result file at {path}; write one with 'vje evaluate RUN'") from error
    except ValueError as error:  # not UTF-8 or not JSON
        raise VJEError(f"{path}: not a JSON file ({error}); evaluate the run again") from error
