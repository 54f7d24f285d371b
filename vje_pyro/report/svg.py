"""Matplotlib figures as inline SVG whose colours follow the page, light or dark.

Figures are drawn in marker colours that no theme uses; each is replaced by a CSS variable, so one
picture serves both themes. Text stays text (searchable, in the page's font). User text never goes
through Matplotlib, where ``$`` would be parsed as mathematics: a figure holds a placeholder, and
the escaped text is put in its place.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PANEL = "#010101", "#010102", "#010103", "#010104"
SERIES, ALARM, REFERENCE = "#010105", "#010106", "#010107"
CLASSES = tuple(f"#0102{index:02x}" for index in range(10))
LEVELS = tuple(f"#0103{index:02x}" for index in range(5))
OTHER = "#010400"

VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PANEL: "panel",
    SERIES: "series",
    ALARM: "alarm",
    REFERENCE: "reference",
    OTHER: "other",
    **{colour: f"class-{index}" for index, colour in enumerate(CLASSES)},
    **{colour: f"level-{index}" for index, colour in enumerate(LEVELS)},
}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
}

MARGINS = (0.64, 0.1, 0.42, 0.18)
"""Inches left, right, below and above the axes; fixed, so that neighbouring plots line up."""


@contextmanager
def drawing(width: float = 3.5, height: float = 2.2) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one axes in the report's style; Matplotlib's own settings come back after.

    Args:
        width: Inches, one inch being 72 units of the SVG.
        height: Inches.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a report
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height))
        left, right, bottom, top = MARGINS
        size = (width - left - right) / width, (height - bottom - top) / height
        yield figure, figure.add_axes((left / width, bottom / height, *size))


def inline(figure: Figure, name: str, alt: str, texts: Mapping[str, str] | None = None) -> Markup:
    """The figure as an ``<svg>`` element; call it inside :func:`drawing`.

    Args:
        figure: The figure.
        name: Unique on the page; prefixes every id of the picture.
        alt: What the picture shows, for readers who do not see it.
        texts: User text by placeholder.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    opening = f'<svg {view_box[0]} role="img" aria-label="{escape(alt)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    for placeholder, text in (texts or {}).items():
        svg = svg.replace(placeholder, escape(text))
    return Markup(re.sub(r"\n\s*", "\n", svg))
