"""The kinds of plots of the pages, and the plots of checks, each drawn by its kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from vje_pyro.diagnostics import plots as specs
from vje_pyro.report.charts import (
    ALARM,
    CLASSES,
    INK,
    MUTED,
    OTHER,
    REFERENCE,
    SERIES,
    Axis,
    Spec,
    Values,
    chart,
    diagonal,
    layer,
    level,
    place,
    render,
    rows,
    tooltip,
)

Limits = tuple[float | None, float | None]
"""Ends of an axis that the meaning of a value fixes; None is left to the data."""

MAX_POINTS = 200
"""Points of a curve; a longer one is shown as means of equal bins with their range."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
"""As many as have no common divisor with the colours: 84 series differ in colour or in shape."""


def draw(plot: specs.Plot) -> Markup:
    """The plot of a check.

    Raises:
        TypeError: If it is of no kind that is known here.
    """
    match plot:
        case specs.Histogram():
            return histogram(plot.values, plot.x, reference=plot.mark, outline=plot.outline)
        case specs.Ranks():
            return _ranks(np.asarray(plot.counts), plot.x)
        case specs.Intervals():
            return _intervals(plot, np.asarray(plot.ends, float))
        case specs.Coverage():
            return _coverage(plot)
        case specs.Agreement():
            return _agreement(plot)
    raise TypeError(f"no drawing for a plot of the kind {type(plot).__name__}.")


def _ranks(counts: NDArray[Any], x_label: str) -> Markup:
    """Counts beside the band that holds the count of each bin of uniform values with 99 %."""
    total, bins = int(counts.sum()), len(counts)
    low, high = binom.interval(0.99, total, 1 / bins)
    edges = np.linspace(0, 1, bins + 1)
    band = rows(x=[0.0], x2=[1.0], y=[low], y2=[high])
    bars = rows(x=edges[:-1], x2=edges[1:], y=counts, y2=np.zeros(bins))
    layers = [
        layer("rect", bars, tooltip(y="count"), color=SERIES, opacity=0.75),
        layer("rect", band, color=REFERENCE, opacity=0.22),
        *level(total / bins, ""),
    ]
    outside = int(((counts < low) | (counts > high)).sum())
    alt = f"{x_label}: {outside} of {bins} bins outside the band"
    return chart(alt, layers, Axis(x_label), Axis("count", zero=True))


def _intervals(plot: specs.Intervals, ends: NDArray[Any]) -> Markup:
    alt = f"{plot.title}: from {ends[0, 0]:.4g} to {ends[-1, 0]:.4g}"
    x = Axis(plot.x, log=10, values=plot.at)
    return chart(alt, interval_layers(plot.at, ends, plot.y), x, Axis(plot.y))


def _coverage(plot: specs.Coverage) -> Markup:
    layers, told = [diagonal(0, 100)], []
    for colour, (label, (middle, low, high)) in zip(
        (MUTED, SERIES), plot.curves.items(), strict=False
    ):
        x = 100 * plot.levels
        shown = rows(x=x, y=100 * middle, text=[label] * len(x))
        said = tooltip(text=" ", x="nominal [%]", y="observed [%]")
        words = {"text": {"field": "text"}}
        layers += [
            layer("area", rows(x=x, y=100 * low, y2=100 * high), color=colour, opacity=0.2),
            layer("line", shown, color=colour),
            layer("point", shown, said, color=colour, size=24),
            layer("text", shown[-1:], words, color=colour, align="right", dx=-4, dy=12, clip=False),
        ]
        off = 100 * np.abs(middle - plot.levels).max()
        told.append(f"{label} off by at most {off:.1f} points")
    y = Axis("observed coverage [%]", domain=(0, 102))
    alt = f"Observed against nominal coverage: {', '.join(told)}"
    return chart(alt, layers, Axis(plot.x, domain=(0, 100)), y, height=250)


def _agreement(plot: specs.Agreement) -> Markup:
    x, y = plot.of_x, plot.of_y
    line = diagonal(float(min(x.min(), y.min())), float(max(x.max(), y.max())))
    said = tooltip(x=plot.x, y=plot.y)
    dots = layer("point", rows(x=x, y=y), said, size=12, opacity=0.4)
    alt = f"{plot.y} against {plot.x}: correlation {np.corrcoef(x, y)[0, 1]:.2f}"
    return chart(alt, [line, dots], Axis(plot.x), Axis(plot.y), height=250, zoom=True)


def curve(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    band: tuple[ArrayLike, ArrayLike] | None = None,
    limits: Limits = (None, None),
    reference: tuple[float, str] | None = None,
    alarms: Sequence[float] = (),
    log: bool = False,
) -> Markup:
    """One curve ``(n,)`` without NaN; a long one as means of equal bins with their range.

    ``band`` are its lower and upper ends ``(n,)``, ``limits`` the ends of the value axis that the
    meaning of the value fixes, ``reference`` a horizontal line and its text, ``alarms`` places on
    the x axis; ``log`` asks for a logarithmic scale in any case. Outliers are counted apart.
    """
    place_, middle = np.asarray(x, float), np.asarray(y, float)
    low, high = (middle, middle) if band is None else (np.asarray(end, float) for end in band)
    keep = np.isfinite(place_) & np.isfinite(middle)
    place_, middle, low, high = (values[keep] for values in (place_, middle, low, high))
    alt = f"{y_label} against {x_label}: first {middle[0]:.4g}, last {middle[-1]:.4g}"
    banded = band is not None or len(middle) > MAX_POINTS
    place_, middle = _bins(place_, np.mean), _bins(middle, np.mean)
    low, high = _bins(low, np.min), _bins(high, np.max)
    positive = middle.min() > 0 and limits == (None, None)
    log = log or bool(positive and middle.max() > 200 * middle.min())
    domain, remark = (None, "") if log else _frame(low, high, limits)
    layers = []
    if banded:
        between = rows(x=place_, y=low, y2=high)
        layers.append(layer("area", between, color=SERIES, opacity=0.22))
    points = {"filled": True, "size": 24, "opacity": 1 if len(middle) <= 30 else 0}
    said = tooltip(x=x_label, y=y_label)
    if len(middle) > 1:
        layers.append(layer("line", rows(x=place_, y=middle), color=SERIES))
    layers.append(layer("point", rows(x=place_, y=middle), said, **points))
    layers += level(*reference) if reference else []
    layers += [line for at in alarms for line in place(at, colour=ALARM)]
    across = Axis(x_label, whole=True)
    up = Axis(y_label, log=10 if log else None, domain=domain)
    return chart(alt, layers, across, up, title=remark)


def histogram(
    values: NDArray[np.floating[Any]],
    x_label: str,
    *,
    reference: tuple[float, str] | None = None,
    log: bool = False,
    outline: NDArray[np.floating[Any]] | None = None,
    bins: int = 40,
) -> Markup:
    """Histogram of values of any shape, as percentages of all; what is not finite has no bar.

    ``reference`` is a vertical line and its text; ``log`` asks for bins that are equal on a
    logarithmic scale, where the range makes that worthwhile; ``outline`` are other values ``(n,)``,
    whose histogram is drawn as a line over the bars.
    """
    drawn = [values[np.isfinite(values)]] + ([outline] if outline is not None else [])
    low, high = (float(np.quantile(np.concatenate(drawn), q)) for q in _tails(outline is not None))
    if high <= low:  # one value: a bin around it
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    log = log and high > 3 * low > 0
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    shares = [100 * np.histogram(v, edges)[0] / max(v.size, 1) for v in (values, *drawn[1:])]
    bars = rows(x=edges[:-1], x2=edges[1:], y=shares[0], y2=np.zeros(bins))
    layers = [layer("rect", bars, tooltip(x="from", x2="to", y="share [%]"), color=SERIES)]
    if outline is not None:
        steps = rows(x=edges, y=np.append(shares[1], 0.0))
        layers.append(layer("line", steps, color=INK, interpolate="step-after", strokeWidth=1.4))
    layers += place(*reference) if reference else []
    alt = f"Histogram of {x_label}: median {np.median(drawn[0]):.3g}, {values.size} values"
    return chart(alt, layers, Axis(x_label, log=10 if log else None), Axis("share [%]", zero=True))


def interval_layers(
    across: Sequence[float], ends: NDArray[np.floating[Any]], name: str, colour: str = SERIES
) -> list[Spec]:
    """A line through estimates ``(n, 3)`` (value, low, high), with vertical intervals."""
    value, low, high = ends.T
    data = rows(x=across, y=value, low=low, high=high)
    whiskers = [{"x": row["x"], "y": row["low"], "y2": row["high"]} for row in data]
    said = tooltip(y=name, low="from", high="to")
    return [
        layer("line", data, color=colour),
        layer("rule", whiskers, color=colour, strokeWidth=1.5),
        layer("point", data, said, color=colour, size=40),
    ]


def dots(
    alt: str, values: Values, names: Sequence[str], title: str, *, distinct: bool = True
) -> Markup:
    """Dot and interval of every name, from top to bottom: how things compare at a glance.

    ``values`` are rows with ``name``, ``value``, ``low``, ``high`` and the text ``shown``; where
    names are ``distinct``, each has a colour and a shape of its own, by its place in ``names``.
    """
    x = {"type": "quantitative", "scale": {"zero": False, "padding": 12}, "title": title}
    look = _look(names) if distinct else {"color": {"value": SERIES}}
    said = {"tooltip": [{"field": "name", "title": " "}, {"field": "shown", "title": "value"}]}
    ends = {"x": {"field": "low"} | x, "x2": {"field": "high"}, "color": look["color"]}
    spec = {
        "data": {"values": values},
        "width": 330,
        "height": {"step": 34 if len(names) < 4 else 24},
        "encoding": {"y": Axis("", names=names).channel("name")},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2.5}, "encoding": ends},
            {"mark": {"type": "point", "size": 75}, "encoding": {"x": {"field": "value"} | x} | look
             | said},
        ],
    }  # fmt: skip
    return render(spec, alt)


def heat_map(alt: str, values: Values, names: Sequence[str], columns: Sequence[str]) -> Markup:
    """AUROC by colour: grey at chance (0.5), blue above, red below.

    ``values`` are rows with ``name``, ``column``, ``value``, its text ``shown``, and ``hover``.
    """
    x = Axis("", names=columns).channel("column")
    x["axis"] |= {"orient": "top", "labelAngle": 0, "labelLimit": 170}
    ramp = {"domain": [0, 0.5, 1], "range": ["#c8502e", "#e8e8e6", "#2f6fb4"], "interpolate": "rgb"}
    colour = {"field": "value", "type": "quantitative", "scale": ramp, "legend": None}
    dark = {"test": "abs(datum.value - 0.5) > 0.3", "value": "white"}
    text = {"text": {"field": "shown"}, "color": {"condition": dark, "value": "#1b1f24"}}
    spec = {
        "data": {"values": values},
        "width": max(90 * len(columns), 240),
        "height": {"step": 26},
        "encoding": {"x": x, "y": Axis("", names=names).channel("name")},
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {"color": colour} | tooltip(hover="AUROC")},
            {"mark": {"type": "text"}, "encoding": text},
        ],
    }
    return render(spec, alt)


def several(
    alt: str, curves: Mapping[str, tuple[Any, Any]], x: Axis, y: Axis, names: Sequence[str]
) -> Markup:
    """Curves ``(x, y)`` of methods, with a colour and a shape by the place in ``names``."""
    data = [
        row | {"name": name} for name, (at, value) in curves.items() for row in rows(x=at, y=value)
    ]
    look = _look(names, legend={"title": None, "orient": "bottom", "columns": 3})
    said = tooltip(name=" ", x=x.title, y=y.title)
    layers = [
        layer("line", data, {"color": look["color"]}, strokeWidth=1.6),
        layer("point", data, look | said, size=45),
    ]
    return chart(alt, layers, x, y, zoom=True, width=420, height=260)


def _look(names: Sequence[str], legend: Spec | None = None) -> Spec:
    """A colour and a shape for every name."""
    looks = (("color", CLASSES), ("shape", SHAPES))
    return {
        channel: {
            "field": "name",
            "type": "nominal",
            "legend": legend,
            "scale": {"domain": list(names), "range": [r[i % len(r)] for i in range(len(names))]},
        }
        for channel, r in looks
    }


def _bins(values: NDArray[Any], reduce: Any) -> NDArray[Any]:
    """At most :data:`MAX_POINTS` values, each of a bin of neighbours."""
    if len(values) <= MAX_POINTS:
        return values
    return np.array([reduce(part) for part in np.array_split(values, MAX_POINTS)])


def _frame(
    low: NDArray[Any], high: NDArray[Any], limits: Limits
) -> tuple[tuple[float, float], str]:
    """Ends of the value axis, and what lies beyond them in words: it is never dropped in silence.

    The first steps of training can be a thousand times larger than all that follows. Where the
    full range is more than five times that of the middle 96 %, the axis shows the latter.
    """
    bottom, top, remark = float(np.min(low)), float(np.max(high)), ""
    inner_bottom, inner_top = float(np.quantile(low, 0.02)), float(np.quantile(high, 0.98))
    if len(low) >= 20 and top - bottom > 5 * (inner_top - inner_bottom) > 0:
        margin = 0.15 * (inner_top - inner_bottom)
        bottom, top = max(bottom, inner_bottom - margin), min(top, inner_top + margin)
        beyond = int(((low < bottom) | (high > top)).sum())
        count = "1 point lies" if beyond == 1 else f"{beyond} points lie"
        remark = f"{count} beyond the axis (range {low.min():.3g} to {high.max():.3g})"
    if top == bottom:
        half = 0.5 * (abs(top) or 1.0)
        bottom, top = bottom - half, top + half
    margin = 0.06 * (top - bottom)
    floor, ceiling = limits
    bottom = bottom - margin if floor is None else floor
    return (bottom, top + margin if ceiling is None else ceiling), remark


def _tails(cut: bool) -> tuple[float, float]:
    return (0.001, 0.999) if cut else (0.0, 1.0)


def scatter(
    alt: str,
    values: Values,
    groups: Sequence[str],
    colours: Sequence[str],
    *,
    hover: Mapping[str, str],
    labels: Values = (),  # type: ignore[assignment]
    axes: tuple[str, str] | None = None,
    size: int = 600,
) -> Markup:
    """A map of points that can be moved and enlarged.

    ``values`` are rows with ``x``, ``y``, ``group`` and the fields of ``hover``, which has their
    titles; a group without a colour is background. ``labels`` are rows with ``x``, ``y`` and
    ``text``, written over the points. Without titles of ``axes``, these are left out.
    """
    scale = {"domain": list(groups), "range": list(colours)}
    colour = {"field": "group", "type": "nominal", "scale": scale, "legend": None}
    known = {"test": {"field": "group", "oneOf": list(groups)}} | colour
    area = float(np.clip(30000 / len(values), 26, 70))
    dots = {"color": {"condition": known, "value": OTHER}} | tooltip(**hover)
    layers = [layer("point", values, dots, size=area, opacity=0.85)]
    if labels:
        text = {"text": {"field": "text"}}
        font = {"fontSize": 14, "fontWeight": "bold", "clip": False}
        halo = {"stroke": "var(--panel)", "strokeWidth": 4, "strokeJoin": "round"}
        layers += [layer("text", list(labels), text, **font, **halo)]
        layers += [layer("text", list(labels), text, **font)]
    x, y = (Axis(title) for title in axes or ("", ""))
    return chart(
        alt, layers, x, y, width=size, height=int(0.72 * size), zoom=True, bare=axes is None
    )
