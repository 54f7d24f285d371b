"""The plots of a report. Each returns an ``<svg>`` element with labelled axes and units."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from vje_pyro.report import svg
from vje_pyro.report.collect import Floats

Limits = tuple[float | None, float | None]
"""Ends of an axis that the meaning of a value fixes; None is left to the data."""

MAX_POINTS = 400
"""Points of a curve; a longer one is shown as means of equal bins with their range."""


def curve(
    name: str,
    x: Floats,
    y: Floats,
    *,
    x_label: str,
    y_label: str,
    spread: Floats | None = None,
    limits: Limits = (None, None),
    reference: tuple[float, str] | None = None,
    alarms: Sequence[float] = (),
) -> Markup:
    """One curve of training.

    Args:
        name: Unique on the page.
        x: Steps or epochs, ``(n,)``.
        y: Values; NaN is left out.
        x_label: Text of the axis.
        y_label: Text of the axis, with the unit.
        spread: Half width of a band around the curve, ``(n,)``.
        limits: Ends of the value axis that are fixed by the meaning of the value.
        reference: A horizontal line and its text.
        alarms: Places on the x axis where an alarm was raised.
    """
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    half = np.zeros_like(y) if spread is None else np.nan_to_num(spread[keep])
    binned = len(x) > MAX_POINTS
    x_mean, middle = _bins(x, np.mean), _bins(y, np.mean)
    low, high = _bins(y - half, np.amin), _bins(y + half, np.amax)
    with svg.drawing() as (figure, axes):
        if binned or spread is not None:
            axes.fill_between(x_mean, low, high, color=svg.SERIES, alpha=0.22, linewidth=0)
        marker = "o" if len(middle) <= 30 else ""
        axes.plot(x_mean, middle, color=svg.SERIES, marker=marker, markersize=3)
        if y.min() > 0 and y.max() > 200 * y.min() and limits == (None, None):
            axes.set_yscale("log")
            y_label += ", log scale"
        else:
            _frame(axes, low, high, limits)
        if reference is not None:
            _reference(axes, *reference)
        for place in alarms:
            axes.axvline(place, color=svg.ALARM, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        alt = f"{y_label} against {x_label}: first {y[0]:.4g}, last {y[-1]:.4g}"
        return svg.inline(figure, name, alt)


def spectrum(name: str, shares: Floats) -> Markup:
    """Eigenvalues of a covariance as shares of the total variance, ``(D,)`` in falling order."""
    count = len(shares)
    floor: float = max(float(shares[0]) * 1e-8, 1e-30)
    with svg.drawing() as (figure, axes):
        marker = "o" if count <= 30 else ""
        index = np.arange(1, count + 1)
        axes.plot(index, shares.clip(min=floor), color=svg.SERIES, marker=marker, markersize=3)
        axes.set_yscale("log")
        _reference(axes, 1 / count, f"all directions equal: 1/{count}")
        axes.set_xlabel("index of the eigenvalue")
        axes.set_ylabel("share of variance, log scale")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        alt = f"Spectrum of {count} eigenvalues: largest share {shares[0]:.3g}, smallest "
        return svg.inline(figure, name, alt + f"{shares[-1]:.3g}")


def cumulative(name: str, shares: Floats) -> Markup:
    """Variance that the leading directions hold together, in percent, of ``(D,)`` shares."""
    count = len(shares)
    index = np.arange(count + 1)
    with svg.drawing() as (figure, axes):
        axes.plot(index, 100 * np.concatenate([[0.0], np.cumsum(shares)]), color=svg.SERIES)
        axes.plot([0, count], [0, 100], color=svg.REFERENCE, linewidth=1.2, linestyle="--")
        axes.annotate("all directions equal", (count, 4), ha="right", color=svg.REFERENCE)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("number of directions")
        axes.set_ylabel("variance held [%]")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return svg.inline(figure, name, "Cumulative variance against the number of directions")


def histogram(
    name: str, values: Floats, x_label: str, reference: tuple[float, str] | None = None
) -> Markup:
    """Histogram of positive values on a logarithmic axis, as percentages of all values."""
    low, high = float(values.min()), float(values.max())
    if high <= low * 1.001:  # one value: a bin around it
        low, high = low / 1.1, high * 1.1
    edges = np.geomspace(low, high, 49)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(values, edges)
    with svg.drawing() as (figure, axes):
        axes.stairs(100 * counts / values.size, edges, fill=True, color=svg.SERIES, alpha=0.85)
        if high > 3 * low:
            axes.set_xscale("log")
            x_label += ", log scale"
        if reference is not None:
            _mark(axes, *reference)
        _plain_log_ticks(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of all values [%]")
        alt = (
            f"Histogram of {x_label}: median {np.median(values):.3g}, from {low:.3g} to {high:.3g}"
        )
        return svg.inline(figure, name, alt)


def ranked(
    name: str,
    middle: Floats,
    *,
    y_label: str,
    band: tuple[Floats, Floats] | None = None,
    reference: tuple[float, str] | None = None,
    from_zero: bool = False,
) -> Markup:
    """A value per feature ``(D,)``, features in rising order, with an optional band."""
    order = np.argsort(middle)
    rank = np.arange(1, len(order) + 1)
    middle = middle[order]
    low, high = (middle, middle) if band is None else (band[0][order], band[1][order])
    with svg.drawing() as (figure, axes):
        if band is not None:
            axes.fill_between(rank, low, high, color=svg.SERIES, alpha=0.22, linewidth=0)
        marker = "o" if len(rank) <= 30 else ""
        axes.plot(rank, middle, color=svg.SERIES, marker=marker, markersize=3)
        _frame(axes, low, high, (0.0 if from_zero else None, None))
        if reference is not None:
            _reference(axes, *reference)
        axes.set_xlabel("rank of the feature")
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        alt = f"{y_label}, per feature: from {middle[0]:.3g} to {middle[-1]:.3g}"
        return svg.inline(figure, name, alt)


def scatter(
    name: str,
    points: Floats,
    groups: NDArray[np.int64],
    colours: Sequence[str],
    *,
    axis_labels: tuple[str, str],
    alt: str,
    labels: Sequence[str] = (),
) -> Markup:
    """A map of points ``(n, 2)``.

    Args:
        name: Unique on the page.
        points: Coordinates.
        groups: Index into ``colours`` of each point; −1 is drawn as "other".
        colours: Marker colours of :mod:`vje_pyro.report.svg`.
        axis_labels: Texts of the axes; empty where the axes have no meaning.
        alt: What is shown.
        labels: Text to write where each group is densest, or none.
    """
    texts: dict[str, str] = {}
    size = float(np.clip(90 / np.sqrt(len(points)), 2.8, 5.0))
    with svg.drawing(4.8, 4.2) as (figure, axes):
        for group in range(-1, len(colours)):
            chosen = points[groups == group]
            colour = svg.OTHER if group < 0 else colours[group]
            axes.plot(
                chosen[:, 0], chosen[:, 1], "o", color=colour, markersize=size, alpha=0.8, mew=0
            )
        for group, text in enumerate(labels):
            chosen = points[groups == group]
            if not len(chosen):
                continue
            placeholder = f"@@{group:03d}@@"
            texts[placeholder] = text
            x, y = _densest(chosen)
            mark = axes.text(x, y, placeholder, ha="center", va="center", size=10, weight="bold")
            mark.set_gid(f"halo{group}")
        axes.set_xlabel(axis_labels[0])
        axes.set_ylabel(axis_labels[1])
        if not any(axis_labels):
            axes.set_axis_off()
            axes.set_position((0, 0, 1, 1))
        axes.set_aspect("equal", adjustable="datalim")
        return svg.inline(figure, name, alt, texts)


def _densest(points: Floats, neighbours: int = 10) -> Floats:
    """The point ``(2,)`` that is nearest to its own nearest points: inside a cluster, always."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.sort(distances, axis=1)[:, : neighbours + 1]
    return points[near.mean(axis=1).argmin()]


def _bins(values: Floats, reduce: Callable[[Floats], Any]) -> Floats:
    """At most :data:`MAX_POINTS` values, each of a bin of neighbours."""
    if len(values) <= MAX_POINTS:
        return values
    return np.array([reduce(part) for part in np.array_split(values, MAX_POINTS)])


def _frame(
    axes: Axes, low: Floats, high: Floats, limits: tuple[float | None, float | None]
) -> None:
    """Limits of the value axis; what lies beyond them is counted on the plot, never dropped.

    The first steps of training can be a thousand times larger than all that follows. Where the
    full range is more than five times that of the middle 96 %, the axis shows the latter.
    """
    bottom, top = float(np.min(low)), float(np.max(high))
    inner_bottom, inner_top = float(np.quantile(low, 0.02)), float(np.quantile(high, 0.98))
    if len(low) >= 20 and top - bottom > 5 * (inner_top - inner_bottom) > 0:
        inner_margin = 0.15 * (inner_top - inner_bottom)
        bottom, top = max(bottom, inner_bottom - inner_margin), min(top, inner_top + inner_margin)
        beyond = int(((low < bottom) | (high > top)).sum())
        points = "1 point lies" if beyond == 1 else f"{beyond} points lie"
        text = f"{points} beyond the axis (range {low.min():.3g} to {high.max():.3g})"
        axes.set_title(text, fontsize=7, color=svg.ALARM, loc="right", pad=3)
    if top == bottom:
        half = 0.5 * (abs(top) or 1.0)
        bottom, top = bottom - half, top + half
    margin = 0.06 * (top - bottom)
    floor, ceiling = limits
    axes.set_ylim(
        bottom - margin if floor is None else floor - 0.02 * ((ceiling or top) - floor),
        top + margin if ceiling is None else ceiling + 0.02 * (ceiling - (floor or 0.0)),
    )


def _reference(axes: Axes, value: float, text: str) -> None:
    axes.axhline(value, color=svg.REFERENCE, linewidth=1.2, linestyle="--")
    axes.annotate(
        text,
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=svg.REFERENCE,
        annotation_clip=False,
    )


def _mark(axes: Axes, value: float, text: str) -> None:
    """A vertical line with its text above."""
    axes.axvline(value, color=svg.REFERENCE, linewidth=1.2, linestyle="--")
    axes.annotate(
        text,
        (value, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=svg.REFERENCE,
    )


def _plain_log_ticks(axes: Axes) -> None:
    """Ticks 0.1, 0.2, 0.5, 1 instead of powers of ten on a logarithmic x axis."""
    if axes.get_xscale() != "log":
        return
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
