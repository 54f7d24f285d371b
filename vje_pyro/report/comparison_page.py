"""The HTML page of a comparison: charts first, then its tables, and what sets the methods apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from vje_pyro.report import charts, page, plots
from vje_pyro.report.comparison import Contender, differences, unequal_budget
from vje_pyro.report.comparison_tables import (
    ACCURACIES,
    COST,
    chosen_scores,
    labels,
    note,
    tables,
)
from vje_pyro.report.tables import cell
from vje_pyro.statistics import Figure

CURVES = (
    ("knn", "epoch", "online kNN accuracy [%]", 100.0),
    ("knn", "minutes of training", "online kNN accuracy [%]", 100.0),
    ("rankme", "epoch", "effective rank (RankMe)", 1.0),
)
"""Column, both axes, and a factor on the values."""

Charts = list[tuple[str, Markup]]


def write_page(contenders: Sequence[Contender], title: str, out: Path) -> Path:
    """Write the comparison as one self-contained HTML file.

    Args:
        contenders: The methods, at least one.
        title: Heading of the page.
        out: The file.
    """
    accuracy, cost, *others = tables(contenders)
    detection = [table for table in others if table.headings[1:2] == ("score",)]
    return page.write_page(
        "comparison.html",
        out,
        title=title,
        note=note(contenders),
        accuracy=accuracy,
        cost=cost,
        detection=detection,
        others=[table for table in others if table not in detection],
        accuracy_dots=_dots(contenders, {
            heading: [c.figures.get(key) for c in contenders] for key, heading in ACCURACIES.items()
        }, percent=True),
        cost_dots=_dots(contenders, {
            heading: [c.logged.get(name) for c in contenders]
            for name, (heading, _) in COST.items()
        }),
        heat_map=_heat_map(contenders),
        curves=_curves(contenders),
        labels=labels(contenders),
        differences=differences(contenders),
        unequal=unequal_budget(contenders),
    )  # fmt: skip


def _dots(
    contenders: Sequence[Contender],
    columns: dict[str, list[Figure | None]],
    percent: bool = False,
) -> Charts:
    """A chart of dots and intervals for each heading that any method has figures of."""
    names, factor = labels(contenders), 100.0 if percent else 1.0
    drawn = []
    for heading, figures in columns.items():
        rows = [
            {"name": name, "value": factor * figure.value, "low": factor * figure.low,
             "high": factor * figure.high, "shown": shown.text}
            for name, figure in zip(names, figures, strict=True)
            if figure is not None
            and (shown := cell("accuracy" if percent else heading, figure))
        ]  # fmt: skip
        if rows:
            alt = f"{heading}: " + "; ".join(f"{row['name']} {row['shown']}" for row in rows)
            axis = heading.replace(" [", " accuracy [") if percent else heading
            drawn.append((heading, plots.dots(alt, rows, names, axis)))
    return drawn


def _heat_map(contenders: Sequence[Contender]) -> Markup | None:
    """AUROC of the chosen score of each method on each set; None where nothing was detected."""
    rows: charts.Values = []
    names = []
    for label, contender, score in zip(
        labels(contenders), contenders, chosen_scores(contenders), strict=True
    ):
        name = f"{label}: {score}"
        names.append(name)
        rows += [
            {"name": name, "column": protocol.split(" ", 1)[-1], "value": figure.value,
             "shown": f"{figure.value:.2f}", "hover": shown.text}
            for (protocol, figure_name), figure in contender.figures.items()
            if protocol.startswith("ood-") and figure_name == f"auroc_{score}"
            and (shown := cell("auroc", figure))
        ]  # fmt: skip
    if not rows:
        return None
    names = [name for name in names if any(row["name"] == name for row in rows)]
    alt = "AUROC of " + "; ".join(f"{r['name']} on {r['column']}: {r['shown']}" for r in rows)
    return plots.heat_map(alt, rows, names, sorted({row["column"] for row in rows}))


def _curves(contenders: Sequence[Contender]) -> Charts:
    drawn = []
    for column, x, y, factor in CURVES:
        found = {}
        for label, contender in zip(labels(contenders), contenders, strict=True):
            if curve := contender.curves.get(column):
                known = np.isfinite(curve.value)
                at = curve.epoch if x == "epoch" else curve.seconds / 60
                found[label] = at[known], factor * curve.value[known]
        if found:
            axes = charts.Axis(x, whole=x == "epoch"), charts.Axis(y)
            plot = plots.several(
                f"{y} against {x} of {', '.join(found)}", found, *axes, labels(contenders)
            )
            drawn.append((f"{y[0].upper()}{y[1:]} against {x}", plot))
    return drawn
