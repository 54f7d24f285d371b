"""run.json: what a run is, so that its figures can be traced back to code and configuration."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import vje_pyro
from vje_pyro.training.atomic import write_atomic

PACKAGES = ("torch", "torchvision", "pyro-ppl", "lightning-fabric", "numpy")


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
        resumed.append({"step": resumed_at, "time": now, "command": sys.argv})
    record = {
        "config": config,
        "seed": seed,
        "versions": versions(),
        "commit": git_commit(),
        "command": before.get("command", sys.argv),
        "created": before.get("created", now),
        "resumed": resumed,
    }
    write_atomic(path, (json.dumps(record, indent=2, default=str) + "\n").encode())


@cache
def versions() -> dict[str, str | None]:
    """Versions of Python, this package and those it computes with."""
    found: dict[str, str | None] = {
        "python": sys.version.split()[0],
        "vje-pyro": vje_pyro.__version__,
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


@cache  # the code that runs is the one that was imported
def git_commit() -> str | None:
    """Commit of the checkout this package runs from, ``-dirty`` if changed; None if installed."""
    package = Path(vje_pyro.__file__).parent
    # An installed copy may lie inside somebody else's checkout: it must be tracked there itself.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changed else commit


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _read_quietly(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
