"""Rewrite the table of faults in docs/diagnostics.md from the file of ``benchmarks/faults.py``.

python benchmarks/faults_table.py           # rewrite it
python benchmarks/faults_table.py --check   # exit 1 if that would change the page
"""

import json
import sys
from pathlib import Path

from faults import FILE
from tables import line, rewrite

DOCS = Path(__file__).resolve().parents[1] / "docs"


def faults_table(file: Path = FILE) -> str:
    """A row for each fault, a column for each check; below, the rate of false alarms."""
    if not file.exists():
        return "No results yet."
    record = json.loads(file.read_text(encoding="utf-8"))
    checks = list(record["false_alarms"])
    rows = [
        [fault, *("found" if flagged[check] else "" for check in checks)]
        for fault, flagged in record["faults"].items()
    ]
    total = record["config"]["repetitions"]
    alarms = [f"{count} of {total}" for count in record["false_alarms"].values()]
    heading = ["fault", *(f"`{check}`" for check in checks)]
    return "\n".join(
        map(line, [heading, ["---"] * len(heading), *rows, ["none, other data: flagged", *alarms]])
    )


TABLES = {"faults": ("diagnostics.md", faults_table)}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
