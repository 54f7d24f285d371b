"""One measurement as a file: what was measured, on what, by which code, with which interval."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, StrictFloat, StrictInt

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.provenance import git_commit, versions
from vje_pyro.reading import JsonFormat, load_json
from vje_pyro.statistics import Figure, in_range, scale_of

SCHEMA = "vje-pyro-result"
SCHEMA_VERSION = 1


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

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    protocol: str
    dataset: dict[str, Any]
    method: str
    features: str
    figures: dict[str, Figure]
    seed: StrictInt
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    wall_time_s: StrictFloat = 0.0
    commit: str | None = field(default_factory=git_commit)
    versions: dict[str, str | None] = field(default_factory=versions)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        """Plain t-intervals of older files are taken to the scales of their figures."""
        self.figures = {name: in_range(f, scale_of(name)) for name, f in self.figures.items()}

    @property
    def filename(self) -> str:
        """File name by convention, ``<method>-<features>-seed<seed>-<protocol>.json``."""
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
        make_folder(Path(path).parent)
        write_atomic(Path(path), text)
        return Path(path)

    @classmethod
    def read(cls, path: Path | str) -> "Result":
        """Read what :meth:`write` wrote.

        Raises:
            CheckpointError: If the file is missing, damaged, or not a result of this schema
                version.
        """
        return _FORMAT.read(Path(path))


_ADVICE = "Evaluate the run again with this version of vje-pyro."
_FORMAT = JsonFormat(
    Result,
    missing="no result file at {path}; write one with 'vje evaluate RUN'",
    advice=_ADVICE,
    schema=SCHEMA,
    version=SCHEMA_VERSION,
)


def is_result(path: Path | str) -> bool:
    """Whether a JSON file says that it is a result (of any version).

    Raises:
        CheckpointError: If the file is missing or not JSON.
    """
    content = load_json(Path(path), advice=_ADVICE)
    return isinstance(content, dict) and content.get("schema") == SCHEMA
