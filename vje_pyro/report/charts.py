"""Charts as Vega-Lite: drawn here once as SVG, and again by the page's script to hover and zoom.

A chart is a list of layers over a pair of axes. Colours are the CSS variables of the page, so one
drawing serves the light and the dark theme. Text never becomes markup: Vega draws it as text.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import vl_convert
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

VERSION = "6.4"
"""Of Vega-Lite."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

Spec = dict[str, Any]
Values = list[dict[str, Any]]
Limits = tuple[float | None, float | None]
"""Ends of an axis that the meaning of a value fixes; None is left to the data."""

INK, MUTED, SERIES, ALARM, REFERENCE, OTHER = (
    f"var(--{name})" for name in ("ink", "muted", "series", "alarm", "reference", "other")
)
CLASSES = tuple(f"var(--class-{index})" for index in range(12))
LEVELS = tuple(f"var(--level-{index})" for index in range(5))
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
"""As many as have no common divisor with the colours: 84 series differ in colour or in shape."""

_CLIP = re.compile(r'(id="|url\(#)(clip\d+)')
_LONG = re.compile(r' (?:d|transform)="[^"]*"')

MAX_POINTS = 200
"""Points of a curve; a longer one is shown as means of equal bins with their range."""

FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Noto Sans', sans-serif"
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "domainColor": MUTED,
        "gridColor": "var(--grid)",
        "labelColor": INK,
        "tickColor": MUTED,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "labelLimit": 260,
        "tickCount": 5,
    },
    "title": {"color": ALARM, "fontSize": 10, "fontWeight": "normal", "anchor": "end"},
    "header": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
    "legend": {"labelColor": INK, "titleColor": INK, "symbolOpacity": 1},
    "text": {"color": INK},
    "rule": {"color": SERIES},
    "point": {"filled": True, "color": SERIES, "opacity": 1, "aria": False},
    "line": {"color": SERIES, "strokeWidth": 2},
    "bar": {"color": SERIES},
}


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Args:
        title: Name and unit.
        log: Whether the scale is logarithmic, to which base.
        domain: Both ends; None lets Vega choose.
        zero: Whether zero is on the axis in any case.
        values: Where its ticks are; None lets Vega choose.
        whole: Whether ticks are whole numbers only.
        names: In this order, of an axis of names instead of numbers.
    """

    title: str
    log: float | None = None
    domain: tuple[float, float] | None = None
    zero: bool = False
    values: Sequence[float] | None = None
    whole: bool = False
    names: Sequence[str] | None = None

    def channel(self, field: str) -> Spec:
        """The encoding of a field on this axis."""
        if self.names is not None:
            plain = {"title": self.title or None, "grid": False, "ticks": False, "domain": False}
            return {"field": field, "type": "nominal", "sort": list(self.names), "axis": plain}
        scale: Spec = {"type": "log", "base": self.log} if self.log else {"zero": self.zero}
        if self.domain:
            scale |= {"domain": list(self.domain), "nice": False}
        axis: Spec = {"title": self.title + (", log scale" if self.log else "")}
        axis |= {"values": list(self.values)} if self.values is not None else {}
        axis |= {"tickMinStep": 1} if self.whole else {}
        axis |= {"format": "~g"} if self.log else {}
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def rows(**columns: Any) -> Values:
    """Columns ``(n,)`` as rows; numbers are cut to five digits, NaN and infinity left blank."""
    lists = {name: np.asarray(column).tolist() for name, column in columns.items()}
    return [
        {name: _short(value) for name, value in zip(lists, row, strict=True)}
        for row in zip(*lists.values(), strict=True)
    ]


def layer(mark: str, values: Values, encoding: Spec | None = None, /, **properties: Any) -> Spec:
    """Marks of one kind: rows with ``x``, ``y`` (``x2``, ``y2``), further channels, the look."""
    ends = {end: {"field": end} for end in ("x2", "y2") if values and end in values[0]}
    mark_type = {"type": mark, "clip": True} | properties
    return {"data": {"values": values}, "mark": mark_type, "encoding": ends | (encoding or {})}


def tooltip(**titles: str) -> Spec:
    """What is shown above a mark: fields with their titles."""
    return {"tooltip": [{"field": field, "title": title} for field, title in titles.items()]}


def level(value: float, text: str, colour: str = REFERENCE) -> list[Spec]:
    """A dashed line at a value of the y axis, and its text above it."""
    data = [{"y": value, "text": text}]
    across = {"x": {"value": 0}, "x2": {"value": "width"}}
    line = layer("rule", data, across, color=colour, strokeDash=[5, 4])
    words = {"x": {"value": "width"}, "text": {"field": "text"}}
    return [line, layer("text", data, words, color=colour, align="right", dx=-2, dy=-6, clip=False)]


def place(x: float, text: str = "", colour: str = REFERENCE) -> list[Spec]:
    """A dashed line at a place of the x axis, and its text beside its upper end."""
    data = [{"x": x, "text": text}]
    along = {"y": {"value": 0}, "y2": {"value": "height"}}
    line = layer("rule", data, along, color=colour, strokeDash=[3, 3])
    if not text:
        return [line]
    words = {"y": {"value": 4}, "text": {"field": "text"}}
    return [line, layer("text", data, words, color=colour, align="left", dx=4, clip=False)]


def diagonal(low: float, high: float) -> Spec:
    """The line on which both axes agree."""
    ends = rows(x=[low, high], y=[low, high])
    return layer("line", ends, color=REFERENCE, strokeDash=[5, 4], strokeWidth=1.2)


def chart(
    alt: str,
    layers: Sequence[Spec],
    x: Axis,
    y: Axis,
    *,
    width: int = 330,
    height: int | Spec = 190,
    zoom: bool = False,
    title: str = "",
    bare: bool = False,
) -> Markup:
    """A chart ready for the page: layers over a pair of axes.

    ``alt`` says what it shows to readers who do not see it. ``width`` and ``height`` are pixels of
    the drawing, which the page's script fits to the page. With ``zoom`` it can be moved and
    enlarged, a ``title`` is a remark above it, and a ``bare`` one has no axes.
    """
    channels = {"x": x.channel("x"), "y": y.channel("y")}
    if bare:
        channels = {name: channel | {"axis": None} for name, channel in channels.items()}
    spec: Spec = {
        "width": width,
        "height": height,
        "encoding": channels,
        "layer": [dict(layer) for layer in layers],
    }
    spec |= {"title": title} if title else {}
    if zoom:
        bound: Spec = {"name": "zoom", "bind": "scales"}
        bound["select"] = {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"}
        spec["layer"][0]["params"] = [bound]
    return render(spec, alt)


def render(spec: Spec, alt: str) -> Markup:
    """The chart as SVG, with its specification beside it for the page's script."""
    seen = [part for part in spec["layer"] if part["mark"].get("opacity") != 0]
    drawing = vl_convert.vegalite_to_svg(
        {"$schema": SCHEMA, "config": CONFIG, **spec, "layer": seen}, vl_version=VERSION
    )
    content = as_script(spec)
    name = "c" + hashlib.sha256(content.encode()).hexdigest()[:8]
    numbers: dict[str, int] = {}  # Vega counts through a process: ids are made anew for each chart
    drawing = _CLIP.sub(
        lambda found: f"{found[1]}{name}-{numbers.setdefault(found[2], len(numbers))}",
        _LONG.sub(_cut, drawing),
    )
    return Markup(
        f'<div class="chart" role="img" aria-label="{escape(alt)}">{drawing}'
        f'<script type="application/json">{content}</script></div>'
    )


def _cut(attribute: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def as_script(value: Any) -> Markup:
    """JSON that can stand inside a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " "))


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
    across = Axis(x_label, whole=True, domain=_ends(place_))
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
    x = {"type": "quantitative", "scale": {"zero": False}, "title": title}
    look = _look(names) if distinct else {"color": {"value": SERIES}}
    said = {"tooltip": [{"field": "name", "title": " "}, {"field": "shown", "title": "value"}]}
    ends = {"x": {"field": "low"} | x, "x2": {"field": "high"}, "color": look["color"]}
    spec = {
        "data": {"values": values},
        "width": 330,
        "height": {"step": 22},
        "encoding": {"y": Axis("", names=names).channel("name")},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2.5}, "encoding": ends},
            {"mark": {"type": "point", "size": 75}, "encoding": {"x": {"field": "value"} | x} | look
             | said},
        ],
    }  # fmt: skip
    return render(spec, alt)


def heat_map(alt: str, values: Values, names: Sequence[str], columns: Sequence[str]) -> Markup:
    """AUROC by colour: grey where a score knows nothing (0.5), blue above, red below.

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


def _ends(values: NDArray[Any]) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if np.ptp(values) > 0 else None


def _tails(cut: bool) -> tuple[float, float]:
    return (0.001, 0.999) if cut else (0.0, 1.0)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


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
        font = {"fontSize": 13, "fontWeight": "bold", "clip": False}
        halo = {"stroke": "var(--panel)", "strokeWidth": 4, "strokeJoin": "round"}
        layers += [layer("text", list(labels), text, **font, **halo)]
        layers += [layer("text", list(labels), text, **font)]
    x, y = (Axis(title) for title in axes or ("", ""))
    return chart(
        alt, layers, x, y, width=size, height=int(0.72 * size), zoom=True, bare=axes is None
    )
