"""Where a file comes from: the versions and the commit of the code that wrote it."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "vje-pyro",
    "torch",
    "torchvision",
    "pyro-ppl",
    "lightning-fabric",
    "scikit-learn",
    "numpy",
)
"""The packages whose versions are recorded."""


def command() -> list[str]:
    """The command that started this process, without the folders of its programs."""
    program, *arguments = sys.orig_argv
    if arguments and Path(arguments[0]).name == "vje":
        return ["vje", *arguments[1:]]
    return [Path(program).name, *arguments]


def versions() -> dict[str, str | None]:
    """Versions of Python and of :data:`PACKAGES`; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def origin() -> dict[str, Any]:
    """``commit`` and ``versions`` of the code that writes a file."""
    return {"commit": git_commit(), "versions": versions()}


@cache  # the code that runs is the one that was imported
def git_commit() -> str | None:
    """Commit of the checkout this package runs from, ``-dirty`` if changed.

    Of a copy that left its repository behind, what the environment variable ``VJE_COMMIT`` says;
    None if it says nothing.
    """
    return commit_of(Path(__file__).parent) or os.environ.get("VJE_COMMIT") or None


def commit_of(package: Path) -> str | None:
    """Commit of the checkout that tracks ``package/__init__.py``."""
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
