"""The HTML page of a comparison: its tables, its curves, and what sets the methods apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from vje_pyro.atomic import write_atomic
from vje_pyro.report import svg
from vje_pyro.report.comparison import Contender, differences, unequal_budget
from vje_pyro.report.comparison_tables import note, tables
from vje_pyro.report.html import STYLE_SHEET, template

PANELS = (
    ("knn", "epoch", "epoch", "online kNN accuracy [%]", 100.0),
    ("knn", "seconds", "minutes of training", "online kNN accuracy [%]", 100.0),
    ("rankme", "epoch", "epoch", "RankMe: effective rank", 1.0),
)
"""Column, what it is drawn against, both labels, and a factor on the values."""


def write_page(contenders: Sequence[Contender], title: str, out: Path) -> Path:
    """Write the comparison as one self-contained HTML file.

    Args:
        contenders: The methods, at least one.
        title: Heading of the page.
        out: The file.
    """
    differing = differences(contenders)
    page = template("comparison.html").render(
        style=Markup(STYLE_SHEET.read_text(encoding="utf-8")),
        title=title,
        note=note(contenders),
        tables=tables(contenders),
        plots=_plots(contenders),
        legend=[(c.label, f"--class-{i % len(svg.CLASSES)}") for i, c in enumerate(contenders)],
        labels=[contender.label for contender in contenders],
        differences=differing,
        unequal=unequal_budget(contenders),
    )
    write_atomic(out, page)
    return out


def _plots(contenders: Sequence[Contender]) -> list[tuple[str, Markup]]:
    return [
        (f"{y_label} against {x_label}", _plot(contenders, f"panel-{number}", panel))
        for number, panel in enumerate(PANELS)
        for column, _, x_label, y_label, _ in [panel]
        if any(column in contender.curves for contender in contenders)
    ]


def _plot(
    contenders: Sequence[Contender], name: str, panel: tuple[str, str, str, str, float]
) -> Markup:
    column, against, x_label, y_label, factor = panel
    with svg.drawing() as (figure, axes):
        for index, contender in enumerate(contenders):
            curve = contender.curves.get(column)
            if curve is None:
                continue
            x = curve.epoch if against == "epoch" else curve.seconds / 60
            known = np.isfinite(curve.value)
            colour = svg.CLASSES[index % len(svg.CLASSES)]
            axes.plot(x[known], factor * curve.value[known], color=colour)
        if against == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        labels = ", ".join(contender.label for contender in contenders)
        return svg.inline(figure, name, f"{y_label} against {x_label} of {labels}")
