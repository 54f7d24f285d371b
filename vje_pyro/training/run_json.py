"""run.json: what a run is, so that its figures can be traced back to code and configuration."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from vje_pyro.atomic import write_atomic
from vje_pyro.provenance import command, origin
from vje_pyro.reading import JsonFormat
from vje_pyro.training.checkpoint import load_meta
from vje_pyro.training.checkpointing import Seed, read_progress
from vje_pyro.training.run_dir import RunDir


class Start(BaseModel):
    """A later start of a run."""

    model_config = ConfigDict(strict=True)

    step: NonNegativeInt
    time: str
    command: list[str]


class RunJson(BaseModel):
    """Content of run.json; ``created`` is UTC in ISO 8601, ``resumed`` has every later start."""

    model_config = ConfigDict(strict=True, extra="allow")

    config: dict[str, Any]
    seed: Seed
    data_digest: str | None = None
    precision: str | None = None
    versions: dict[str, str | None] = {}
    commit: str | None = None
    command: str | list[str] = []
    created: str = ""
    resumed: list[Start] = []


_FORMAT = JsonFormat(
    RunJson,
    missing="{path} does not exist.",
    advice="Remove it: the configuration is then taken from the run's last checkpoint.",
)


def write_run_json(
    run_dir: Path,
    config: dict[str, Any],
    *,
    seed: int,
    resumed_at: int | None = None,
    data_digest: str | None = None,
    precision: str | None = None,
) -> None:
    """Write ``run_dir/run.json`` atomically: what :class:`RunJson` has.

    Args:
        run_dir: Directory of the run, existing.
        config: Resolved configuration, JSON-like.
        seed: Seed of the run.
        resumed_at: Step at which a resumed run goes on; None when the run is new.
        data_digest: Of the images that are trained on; None if unknown.
        precision: The one used, where the configuration says ``auto``; None if unknown.

    Raises:
        CheckpointError: The file cannot be written, or a resumed run's is damaged.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = read_run_json(run_dir) if resumed_at is not None else {}
    resumed = before.get("resumed", [])
    if resumed_at is not None:
        resumed.append({"step": resumed_at, "time": now, "command": command()})
    record = {
        "config": config,
        "seed": seed,
        "data_digest": data_digest,
        "precision": precision,
        **origin(),
        "command": before.get("command") or command(),
        "created": before.get("created") or now,
        "resumed": resumed,
    }
    write_atomic(RunDir(run_dir).run_json, json.dumps(record, indent=2, default=str) + "\n")


def read_run_json(run: Path) -> dict[str, Any]:
    """Content of ``run.json``; without one, what the run's last checkpoint tells of it.

    Raises:
        CheckpointError: If there is no such run, or the file is damaged.
    """
    directory = RunDir(run)
    directory.require()
    if not directory.run_json.exists() and directory.last.is_file():
        return _from_checkpoint(directory.last).model_dump()
    return _FORMAT.read(directory.run_json).model_dump()


def _from_checkpoint(path: Path) -> RunJson:
    meta = load_meta(path)
    seed = read_progress(meta, path).plan.seed
    return RunJson(config=meta.config, seed=seed, versions=meta.versions)
