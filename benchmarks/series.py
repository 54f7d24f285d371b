"""A study of many small trainings: its command line, and what is missing done in turn."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from study import ROOT

from vje_pyro.errors import VJEError

Job = Callable[[], None]


def command_line(
    description: str, study: str, names: Sequence[str], seeds: Sequence[int], option: str
) -> argparse.ArgumentParser:
    """What all such studies are told.

    Args:
        description: Of the script; its first line is shown.
        study: Folder of runs and of results.
        names: What can be chosen, all of it by default.
        seeds: By default.
        option: Name of the option that chooses.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(f"--{option}", nargs="+", default=list(names), choices=list(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none after this")
    parser.add_argument("--workers", type=int, default=1, help=f"trainings or {option} at a time")
    parser.add_argument("--experiment", default="cifar10_small")
    parser.add_argument("--study", default=study, help="folder of runs and of results")
    parser.add_argument("--root", type=Path, default=ROOT, help="holds runs/ and docs/results/")
    parser.add_argument("overrides", nargs="*")
    return parser


def worker_command(script: str, options: argparse.Namespace, **changed: object) -> list[str]:
    """The command of one worker: that of this call, but for what is changed."""
    words = [sys.executable, script, *options.overrides]
    for name, value in (vars(options) | changed).items():
        if name not in ("overrides", "workers"):
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"--{name}", *map(str, values)]
    return words


def run_in_time(jobs: Iterable[Job], minutes: float) -> int:
    """Run jobs as long as there is time; one that fails is said, and the others go on.

    Returns:
        How many failed.
    """
    start, failures = time.monotonic(), 0
    for job in jobs:
        if time.monotonic() - start > 60 * minutes:
            print("no time left; start it again to go on")
            break
        try:
            job()
        except VJEError as error:
            print(f"error: {error}", file=sys.stderr)
            failures += 1
    return failures
