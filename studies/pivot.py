"""Tables of stored results: figures over seeds, in rows and columns by their names."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from studies.store import Record, Store
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable
from vje_pyro.statistics import CORRELATION, SHARE, over_seeds, parts, scale_of, show

Row = tuple[str, ...]

NONE = "No results yet."
PERCENT = re.compile(r"(views-\d+_)?(accuracy|angle-|radius-|rank-alarms|coverage)")
"""Figures that are shown in %."""


def table(heading: Iterable[str], rows: Iterable[Iterable[str]], note: str = "") -> str:
    """Markdown."""
    names = list(heading)
    lines = [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]
    return "\n".join([*lines, *(["", note] if note else [])])


def cell(name: str, figures: Sequence[Figure], blank: str = "") -> str:
    """A figure of all seeds as it is shown; ``blank`` where nothing was measured."""
    if not figures:
        return blank
    scale = scale_of(name)
    figure = over_seeds(figures, scale)
    bounded = scale in (SHARE, CORRELATION) or abs(figure.value) < 10
    form, factor = (".1f", 100) if PERCENT.match(name) else (".3f" if bounded else ".1f", 1)
    form = ".0f" if name == "count" else form
    return show(figure, form, factor) + "\\*" * (len(figures) == 1 and parts(figure)[1] != "")


def read(results: Path, study: str, *protocols: str) -> list[Record]:
    """Results of a study by variant and seed: of all protocols, or of those named, newest version.

    Raises:
        VJEError: Seeds of a variant are not repetitions of one experiment.
    """
    groups: dict[tuple[Any, ...], dict[int, list[Record]]] = {}
    for record in sorted(Store(results).read(study), key=_order):
        variant, protocol, features, _, part = record.key
        name, version = str(protocol).rsplit("-v", 1)
        if not protocols or name in protocols:
            key = variant, record.result.method, features, name, part
            groups.setdefault(key, {}).setdefault(int(version), []).append(record)
    newest = {key: versions[max(versions)] for key, versions in groups.items()}
    for (variant, *_, name, _), records in newest.items():
        check_comparable(f"{study}, {variant}, {name}", [record.result for record in records])
    return sorted((record for records in newest.values() for record in records), key=_order)


def _order(record: Record) -> tuple[Any, ...]:
    r = record.result
    return record.variant, r.method, r.features, r.seed, r.protocol, record.key[-1]


@dataclass(frozen=True)
class Pivot:
    """Figures of results, a row and a column each by their names, in the order they are found.

    Args:
        studies: Whose results.
        protocols: Names without version; all when empty.
        rows: Headings of the row's names, and each as a format of ``variant``, ``method``,
            ``features``, ``out`` and the groups of the pattern.
        pattern: Of the names of the figures that are shown.
        column: Format of the column's heading.
        columns: Instead of these the columns that are shown, ``"PROTOCOL FIGURE"`` with heading.
        scores: Only these values of the pattern's ``score``; all when empty.
        ends: Also both ends of the scale of each AURC, and a row for each pair of row names.
        note: Below the table.
    """

    studies: Row
    protocols: Row
    rows: Mapping[str, str]
    pattern: str = ".+"
    column: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    scores: Row = ()
    ends: bool = False
    note: str = ""

    def __call__(self, results: Path) -> str:
        """The table, from the folder of results."""
        found: dict[Row, dict[str, list[Figure]]] = {}
        names: dict[tuple[Row, str], str] = {}
        for row, column, name, figure in self._cells(results):
            found.setdefault(row, {}).setdefault(column, []).append(figure)
            names[row, column] = name
        if not found:
            return NONE
        columns = list(dict.fromkeys(c for figures in found.values() for c in figures))
        columns.sort(key=[*self.columns.values(), *columns].index)
        lines = []
        for row in self._order(found):
            figures = found.get(row, {})
            cells = (cell(names.get((row, c), ""), figures.get(c, []), "–") for c in columns)
            seeds = sorted({len(each) for each in figures.values()}) or [0]
            lines.append([*row, *cells, "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))])
        return table([*self.rows, *columns, "seeds"], lines, self.note)

    def _order(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Rows with the same first name below each other; with ``ends`` all pairs of names."""
        first, second = (list(dict.fromkeys(names)) for names in list(zip(*rows, strict=True))[:2])
        if self.ends:
            return product(first, second)
        return sorted(rows, key=lambda row: first.index(row[0]))

    def _cells(self, results: Path) -> Iterator[tuple[Row, str, str, Figure]]:
        records = (x for study in self.studies for x in read(results, study, *self.protocols))
        for variant, r in records:
            for name, figure in (*(ends(r) if self.ends else ()), *r.figures.items()):
                match = re.fullmatch(self.pattern, name)
                if match is None or (self.scores and match["score"] not in self.scores):
                    continue
                words = {"out": r.dataset.get("out", "mean AUROC"), **match.groupdict("posterior")}
                words |= {"variant": variant, "method": r.method, "features": r.features}
                column = self.column.format(**words)
                if self.columns:
                    column = self.columns.get(f"{r.protocol} {name}", "")
                elif PERCENT.match(name):
                    column += ", %"
                if column:
                    yield tuple(x.format(**words) for x in self.rows.values()), column, name, figure


ENDS = {"error": "error rate", "best_aurc": "best order"}
"""Details of the uncertainty protocol and their columns."""


def ends(result: Result) -> Iterator[tuple[str, Figure]]:
    """Both ends of the scale of each AURC, which have no interval of their own."""
    for name, value in result.details.items():
        end, _, classifier = name.rpartition("_")
        if end in ENDS:
            yield f"aurc_{classifier}_{ENDS[end]}", Figure.point(value)
