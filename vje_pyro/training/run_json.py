"""run.json: what a run is, so that its figures can be traced back to code and configuration."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vje_pyro.atomic import write_atomic
from vje_pyro.provenance import command, git_commit, versions


def write_run_json(
    run_dir: Path, config: dict[str, Any], *, seed: int, resumed_at: int | None = None
) -> None:
    """Write ``run_dir/run.json`` atomically.

    Keys: ``config``, ``seed``, ``versions``, ``commit``, ``command``, ``created`` (UTC, ISO 8601)
    and ``resumed``, a list with the step, time and command of every later start.

    Args:
        run_dir: Directory of the run, existing.
        config: Resolved configuration, JSON-like.
        seed: Seed of the run.
        resumed_at: Step at which a resumed run goes on; None when the run is new.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = run_dir / "run.json"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = _read_quietly(path) if resumed_at is not None else {}
    resumed = list(before.get("resumed", []))
    if resumed_at is not None:
        resumed.append({"step": resumed_at, "time": now, "command": command()})
    record = {
        "config": config,
        "seed": seed,
        "versions": versions(),
        "commit": git_commit(),
        "command": before.get("command", command()),
        "created": before.get("created", now),
        "resumed": resumed,
    }
    write_atomic(path, json.dumps(record, indent=2, default=str) + "\n")


def _read_quietly(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
