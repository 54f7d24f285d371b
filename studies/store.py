"""Results of studies: a line of JSON each, in one file a study.

``FOLDER/STUDY.jsonl`` holds the results, ``FOLDER/common.jsonl`` what many of them share
(configuration, data set, versions), once, by hash. Both begin with a line that names schema and
version. A file is replaced as a whole under a lock: whatever is killed, a result is there or not.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.evaluation import Result
from vje_pyro.evaluation.result import is_result
from vje_pyro.reading import damaged, load_json, parse_json, read_bytes, validate

HEADER = {"schema": "vje-pyro-study", "schema_version": 1}
COMMON = ("config", "dataset", "versions")
"""Fields of a result of which a line has the hash."""

_ADVICE = "Take the file from the repository again, or add its results anew: python -m studies add."


class Record(NamedTuple):
    """A result and the variant of the study that it is of."""

    variant: str
    result: Result

    @property
    def key(self) -> tuple[str | int, ...]:
        """What it is a result of; a study has one of each."""
        r = self.result
        part = r.dataset.get("out") or r.settings.get("rate") or r.details.get("name") or ""
        return self.variant, r.protocol, r.features, r.seed, str(part)


class Store:
    """The results in a folder.

    Args:
        folder: Such as ``docs/results``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, study: str) -> Path:
        """File of a study."""
        return self.folder / f"{study}.jsonl"

    def read(self, study: str) -> list[Record]:
        """All results of a study, in the order in which they came; none without a file.

        Raises:
            CheckpointError: A file is damaged or of another version.
        """
        path = self.path(study)
        common = self._common()
        records = []
        for number, line in _lines(path):
            try:
                records.append(_unpacked(line, common))
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, ValueError(f"line {number}: {error}"), _ADVICE) from error
        return records

    def add(self, study: str, records: Iterable[Record]) -> None:
        """Append results, whole or not at all.

        Raises:
            VJEError: The study has a result of the same variant, protocol, features and seed.
            WriteError: The folder cannot be written.
        """
        with self._locked():
            known, common, lines = {r.key for r in self.read(study)}, self._common(), []
            before = dict(common)
            for record in records:
                if record.key in known:
                    raise VJEError(
                        f"{self.path(study)} has a result of {record.key} already: delete its "
                        "line to replace it."
                    )
                known.add(record.key)
                lines.append(_packed(record, common))
            new = [{"hash": key, "value": common[key]} for key in common.keys() - before.keys()]
            _append(self.path("common"), sorted(new, key=lambda line: line["hash"]))
            _append(self.path(study), lines)

    def _common(self) -> dict[str, Any]:
        return {line["hash"]: line["value"] for _, line in _lines(self.path("common"))}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self.folder)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def digest(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def read_result(path: Path) -> Result:
    """A result file of ``vje evaluate`` and its like, or ``diagnostics.json``.

    Raises:
        CheckpointError: It is neither, damaged, or of another version.
    """
    if is_result(path):
        return Result.read(path)
    content = load_json(path, _ADVICE)
    if not isinstance(content, dict) or content.get("schema") != "vje-pyro-diagnostics":
        raise CheckpointError(f"{path} holds no result.")
    return diagnosis(content)


def diagnosis(content: dict[str, Any]) -> Result:
    """The content of ``diagnostics.json`` as a result, its checks among the details."""
    return Result(
        protocol=f"diagnostics-v{content['schema_version']}",
        dataset={"name": content["dataset"], **content["images"]},
        method=content["method"],
        features="encoder",
        figures={},
        seed=content["training_seed"],
        settings={"seed": content["seed"], "data": content["data"]},
        config=content["config"],
        details={"checks": content["checks"]},
        commit=content["commit"],
        versions=content["versions"],
        created=content["created"],
    )


def scrubbed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the folders of this machine, which are nobody's business."""
    config = {key: value for key, value in config.items() if key != "run_dir"}
    data = {key: value for key, value in config.get("data", {}).items() if key != "root"}
    if isinstance(source := data.get("source"), dict):
        data["source"] = {key: value for key, value in source.items() if key != "root"}
    return config | ({"data": data} if data else {})


def _packed(record: Record, common: dict[str, Any]) -> dict[str, Any]:
    line = {"variant": record.variant, **asdict(record.result)}
    # The seeds of a variant have one configuration.
    line["config"] = scrubbed({k: v for k, v in line["config"].items() if k != "seed"})
    for name in COMMON:
        key = digest(line[name])
        common.setdefault(key, line[name])
        line[name] = key
    figures = groupby(record.result.figures.items(), key=lambda item: (item[1].n, item[1].interval))
    line["figures"] = [
        {"n": n, "interval": interval, "values": {k: [x.value, x.low, x.high] for k, x in items}}
        for (n, interval), items in figures
    ]
    return line


def _unpacked(line: dict[str, Any], common: dict[str, Any]) -> Record:
    line = dict(line)
    line["figures"] = {
        name: dict(zip(("value", "low", "high"), values, strict=True))
        | {"n": group["n"], "interval": group["interval"]}
        for group in line["figures"]
        for name, values in group["values"].items()
    }
    line |= {name: common[line[name]] for name in COMMON}
    if line["config"]:
        line["config"] = line["config"] | {"seed": line["seed"]}
    return Record(line.pop("variant"), validate(Result, line))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of every line but headers, which a merge of two files may repeat."""
    if not path.exists():
        return
    try:
        lines = [parse_json(line) for line in read_bytes(path).splitlines()]
    except ValueError as error:
        raise damaged(path, error, _ADVICE) from error
    for number, line in enumerate(lines, start=1):
        if number == 1 or "schema" in line:
            if line != HEADER:
                raise damaged(path, ValueError(f"expected {HEADER}, found {line}"), _ADVICE)
        else:
            yield number, line


def _append(path: Path, lines: list[dict[str, Any]]) -> None:
    if not lines:
        return
    before = path.read_bytes() if path.exists() else _text(HEADER).encode()
    write_atomic(path, before + "".join(map(_text, lines)).encode())


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"
