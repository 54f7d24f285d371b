"""The result file of a benchmark: what was found, and with which code."""

import json
from pathlib import Path
from typing import Any

from vje_pyro.atomic import write_atomic
from vje_pyro.provenance import git_commit, versions


def write_record(path: Path, benchmark: str, **content: Any) -> None:
    """Write a benchmark's JSON, whole or not at all, with commit and versions.

    Args:
        path: The file; its folder is made.
        benchmark: Name of the benchmark.
        content: All else.
    """
    record = {
        "benchmark": benchmark, **content, "commit": git_commit(), "versions": versions(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
