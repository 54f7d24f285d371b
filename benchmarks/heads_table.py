"""Rewrite the table of docs/heads.md from result files.

    python benchmarks/heads_table.py           # rewrite it
    python benchmarks/heads_table.py --check   # exit 1 if that would change the page

The files are those of ``benchmarks/heads.py``. A figure is the mean over seeds with a 95 %
t-interval; one from a single seed keeps the interval over draws of labels and is marked with an
asterisk.
"""

import sys
from collections.abc import Iterable

from ood_table import DOCS, Cell, read, table
from tables import rewrite

COLUMNS = {"accuracy": "accuracy", "nll": "NLL, nats", "ece": "ECE"}


def heads_table() -> str:
    """A row for each study, labels a class, and head with what it reads."""
    return table(["study", "labels a class", "head", "reads"], sorted(cells(), key=_place))


def cells() -> Iterable[Cell]:
    """Figures of all result files, by row and column."""
    for study, result in read("heads"):
        for name, figure in result.figures.items():
            metric, head, labels = name.split("_")
            kind, _, reads = head.partition("-")
            yield (study, labels, kind, reads), COLUMNS[metric], figure


def _place(cell: Cell) -> tuple[str, int]:
    study, labels, *_ = cell[0]
    return study, int(labels)


TABLES = {"heads": ("heads.md", heads_table)}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
