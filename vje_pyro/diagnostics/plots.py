"""Plots of checks as plain data: what is plotted, of which kind. The report draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Plot:
    """What every plot has.

    Args:
        title: Heading.
        caption: How to read it.
        x: Name and unit of the horizontal axis.
    """

    title: str
    caption: str
    x: str


@dataclass(frozen=True)
class Histogram(Plot):
    """Values of any shape; ``mark`` is a place and its text, ``outline`` other values beside."""

    values: np.ndarray
    mark: tuple[float, str] | None = None
    outline: np.ndarray | None = None


@dataclass(frozen=True)
class Ranks(Plot):
    """Counts of equal bins of [0, 1], ``(B,)``, beside those of uniform values."""

    counts: ArrayLike


@dataclass(frozen=True)
class Intervals(Plot):
    """Estimates with intervals: value, low and high ``(n, 3)`` over ``at`` on a log scale."""

    y: str
    at: Sequence[float]
    ends: ArrayLike


@dataclass(frozen=True)
class Coverage(Plot):
    """Observed over nominal coverage ``(L,)``, by label: value, low and high ``(3, L)``."""

    levels: np.ndarray
    curves: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Agreement(Plot):
    """Values ``(n,)`` of one thing over those of another, which they should equal."""

    y: str
    of_x: np.ndarray
    of_y: np.ndarray
