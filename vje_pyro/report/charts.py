"""Charts as Vega-Lite: drawn here as SVG, and again by the page's script to hover and zoom.

A chart is a list of layers over a pair of axes. Colours are the CSS variables of the page, so one
drawing serves the light and the dark theme. Text never becomes markup: Vega draws it as text.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import vl_convert
from markupsafe import Markup

VERSION = "6.4"
"""Of Vega-Lite."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

Spec = dict[str, Any]
Values = list[dict[str, Any]]

INK, MUTED, SERIES, ALARM, REFERENCE, OTHER = (
    f"var(--{name})" for name in ("ink", "muted", "series", "alarm", "reference", "other")
)
CLASSES = tuple(f"var(--class-{index})" for index in range(12))
LEVELS = tuple(f"var(--level-{index})" for index in range(5))

_CLIP = re.compile(r'(id="|url\(#)(clip\d+)')
_LONG = re.compile(r' (?:d|transform)="[^"]*"')

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
        "labelFontSize": 11,
        "titleFontSize": 11,
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
        elif not self.zero:
            scale |= {"padding": 6}  # a mark at the end is not cut
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


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value
