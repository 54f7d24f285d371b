"""Charts of several views: does the posterior narrow as it should, and stay right?"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from vje_pyro.evaluation.result import Result
from vje_pyro.report import charts, plots
from vje_pyro.report.collect import Floats, Results
from vje_pyro.report.curves import Panel
from vje_pyro.statistics import Figure

LEVELS = {50: charts.MUTED, 80: charts.SERIES, 95: charts.INK}
"""Nominal coverage in percent, and its colour."""

EXPECTED = {
    "predicted": "the prior's precision and K times what one view of the image adds on average",
    "simulated": "of views that the model itself makes",
}
"""Variances that the measured one is compared with, and what they are."""


def section(results: Results) -> dict[str, Any]:
    """What the template shows of figures ``views-K_WHAT`` in result files; no panels if none."""
    return {"panels": [panel for _, result in results.read for panel in _panels(result)]}


def curve(result: Result, what: str) -> tuple[list[int], Floats] | None:
    """Numbers of views, and value, low and high ``(k, 3)`` of a figure.

    None where it was not measured for one view or more.
    """
    found: dict[int, Figure] = {}
    for name, figure in result.figures.items():
        if match := re.fullmatch(rf"views-(\d+)_{what}", name):
            found[int(match[1])] = figure
    if 1 not in found:
        return None
    numbers = sorted(found)
    return numbers, np.array([(f.value, f.low, f.high) for f in map(found.get, numbers) if f])


def _panels(result: Result) -> Iterator[Panel]:
    small = f" ({result.protocol})"
    variance = curve(result, "variance")
    for what, told in EXPECTED.items():
        expected = curve(result, f"{what}-variance")
        if variance is None or expected is None:
            continue
        numbers, ends = variance
        line = charts.rows(x=expected[0], y=expected[1][:, 0])
        dashed = charts.layer("line", line, color=charts.REFERENCE, strokeDash=[5, 4])
        alt = f"Variance of the posterior against views: from {ends[0, 0]:.3g} to {ends[-1, 0]:.3g}"
        alt += f", predicted {expected[1][-1, 0]:.3g}"
        drawn = [dashed, *plots.interval_layers(numbers, ends, "variance")]
        plot = charts.chart(alt, drawn, _views(numbers), charts.Axis("variance", zero=True))
        text = f"Mean over images and features, with 95 % intervals; dashed: {told}.{small}"
        yield Panel("Variance of the posterior", plot, text)
    for quantity in ("angle", "radius"):
        curves = {level: curve(result, f"{quantity}-{level}") for level in LEVELS}
        found = {level: c for level, c in curves.items() if c is not None}
        if not found:
            continue
        layers = []
        for level, (numbers, ends) in found.items():
            layers += charts.level(level, f"{level} %", LEVELS[level])
            layers += plots.interval_layers(numbers, 100 * ends, "coverage [%]", LEVELS[level])
        worst = max(float(np.abs(100 * c[1][:, 0] - level).max()) for level, c in found.items())
        alt = f"Coverage of the {quantity} against views: off by at most {worst:.1f} points"
        y = charts.Axis("observed coverage [%]", domain=(0, 104))
        text = (
            f"How often central intervals of the predicted {quantity} of one further view hold "
            f"it, with 95 % intervals; dashed: as promised.{small}"
        )
        plot = charts.chart(alt, layers, _views(numbers), y)
        yield Panel(f"Coverage of the {quantity}", plot, text)


def _views(numbers: list[int]) -> charts.Axis:
    return charts.Axis("views K that the posterior sees", log=2, values=numbers)
