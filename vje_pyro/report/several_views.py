"""The section on several views: does the posterior narrow as it should, and stay right?"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from vje_pyro.evaluation.result import Figure, Result
from vje_pyro.report import svg
from vje_pyro.report.collect import Floats, Results

LEVELS = (50, 80, 95)
"""Nominal coverage in percent."""

EXPECTED = {
    "predicted": "the prior's precision and K times what one view of the image adds on average",
    "simulated": "of views that the model itself makes",
}
"""Variances that the measured one is compared with, and what they are."""

Curve = tuple[Floats, Floats, Floats, Floats]
"""Numbers of views, and value, lower and upper end of a figure, each ``(k,)``."""


def section(results: Results) -> dict[str, Any]:
    """What the template shows of figures ``views-K_WHAT`` in result files; no panels if none."""
    found = enumerate(result for _, result in results.read)
    return {"panels": [panel for number, result in found for panel in _panels(number, result)]}


def _panels(number: int, result: Result) -> Iterator[tuple[str, Markup, str]]:
    protocol, name = result.protocol, f"views-{number}"
    variance = curve(result, "variance")
    expected = {what: curve(result, f"{what}-variance") for what in EXPECTED}
    for what, predicted in expected.items():
        if variance is not None and predicted is not None:
            plot = _narrowing(f"{name}-variance", variance, predicted)
            text = f"Mean over images and features, with 95 % intervals; dashed: {EXPECTED[what]}."
            yield f"Variance of the posterior ({protocol})", plot, text
    for quantity in ("angle", "radius"):
        curves = {level: curve(result, f"{quantity}-{level}") for level in LEVELS}
        if found := {level: c for level, c in curves.items() if c is not None}:
            plot = _coverage(f"{name}-{quantity}", quantity, found)
            text = (
                f"How often central intervals of the predicted {quantity} of one further view hold "
                "it, with 95 % intervals; dashed: as promised."
            )
            yield f"Coverage of the {quantity} ({protocol})", plot, text


def curve(result: Result, what: str) -> Curve | None:
    """A figure against the number of views; None where it was not measured for one view or more."""
    found: dict[int, Figure] = {}
    for name, figure in result.figures.items():
        if match := re.fullmatch(rf"views-(\d+)_{what}", name):
            found[int(match[1])] = figure
    if 1 not in found:
        return None
    numbers = sorted(found)
    ends = ([getattr(found[k], end) for k in numbers] for end in ("value", "low", "high"))
    value, low, high = (np.array(end) for end in ends)
    return np.array(numbers, dtype=float), value, low, high


def _narrowing(name: str, measured: Curve, predicted: Curve) -> Markup:
    with svg.drawing() as (figure, axes):
        axes.plot(*predicted[:2], color=svg.REFERENCE, linewidth=1.2, linestyle="--")
        _points(axes, measured, svg.SERIES)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("variance")
        first, last = measured[1][0], measured[1][-1]
        alt = f"Variance of the posterior against views: from {first:.3g} to {last:.3g}, predicted "
        return svg.inline(figure, name, alt + f"{predicted[1][-1]:.3g}")


def _coverage(name: str, quantity: str, curves: dict[int, Curve]) -> Markup:
    with svg.drawing() as (figure, axes):
        for level, colour in zip(LEVELS, (svg.MUTED, svg.SERIES, svg.INK), strict=True):
            if level not in curves:
                continue
            axes.axhline(level, color=colour, linewidth=1.0, linestyle="--")
            numbers, value, low, high = curves[level]
            _points(axes, (numbers, 100 * value, 100 * low, 100 * high), colour)
            axes.annotate(f"{level} %", (numbers[-1], level), ha="right", va="bottom", color=colour)
        axes.set_ylim(0, 104)
        axes.set_ylabel("observed coverage [%]")
        worst = max(float(np.abs(100 * c[1] - level).max()) for level, c in curves.items())
        alt = f"Coverage of the {quantity} against views: off by at most {worst:.1f} points"
        return svg.inline(figure, name, alt)


def _points(axes: Axes, measured: Curve, colour: str) -> None:
    numbers, value, low, high = measured
    error = np.clip(np.stack([value - low, high - value]), 0, None)
    axes.errorbar(numbers, value, error, color=colour, marker="o", markersize=3, capsize=2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(numbers.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{k:g}" for k in numbers])
    axes.set_xlabel("views K that the posterior sees, log scale")
