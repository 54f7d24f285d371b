"""What a check of the inference is: what it measures, what it finds, and how it is shown.

A check is one file with a :class:`Check`, and one row in :data:`vje_pyro.names.CHECKS`, which says
where it is. ``vje diagnose`` and the report read that table, in its order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from vje_pyro import names
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Plot
from vje_pyro.statistics import Figure, show

SCHEMA, SCHEMA_VERSION = "vje-pyro-diagnostics", 2
"""Of ``diagnostics.json``."""

Figures = dict[str, Any]
"""What ``summary()`` of a result gave, as ``diagnostics.json`` holds it."""

Arrays = Mapping[str, np.ndarray]
"""Tensors of a result by the name of their field, as ``arrays.npz`` holds them."""


class Verdict(NamedTuple):
    """What a check says.

    Args:
        flagged: Whether it found a fault, at the level that the check states.
        text: What was found; of a fault, what it means and what to do.
    """

    flagged: bool
    text: str


class Measured(Protocol):
    """The result of a check: a dataclass, with a ``verdict`` where it is a test."""

    def summary(self) -> Figures:
        """Figures for a JSON."""


@dataclass(frozen=True)
class Data:
    """What a check is given.

    Args:
        heldout: Pairs of views of images that are judged.
        train: Pairs of views of training images, for what has to be fitted.
        config: Configuration of the run.
        seed: Of all draws.
        again: From pairs, a seed and a number K to K new pairs of views of each of their images.
    """

    heldout: Pairs
    train: Pairs
    config: Mapping[str, Any]
    seed: int
    again: Callable[[Pairs, int, int], Pairs]
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict)

    def once(self, function: Callable[..., Any]) -> Any:
        """``function(heldout, seed=seed)``, computed once for all checks that look at it."""
        if function not in self._made:
            self._made[function] = function(self.heldout, seed=self.seed)
        return self._made[function]


class Shown(NamedTuple):
    """Rows (name and value in words) and plots of a check."""

    rows: Sequence[tuple[str, str]]
    plots: Sequence[Plot] = ()


class Check(NamedTuple):
    """A check of a run.

    Args:
        question: What it answers, as a heading.
        about: What it does and how to read it.
        measure: From the data to a result.
        show: From the figures and arrays of a result, as they were written, to rows and plots.
        slow: Whether it takes minutes.
    """

    question: str
    about: str
    measure: Callable[[Data], Any]
    show: Callable[[Figures, Arrays], Shown]
    slow: bool = False


def load_check(name: str) -> Check:
    """The check of a name in :data:`vje_pyro.names.CHECKS`."""
    module, _, attribute = names.CHECKS[name].partition(":")
    check: Check = getattr(import_module(module), attribute)
    return check


def told(figure: Figures, percent: bool = False) -> str:
    """A figure of a summary with its interval, in words."""
    value, low, high = (float(figure[end]) for end in ("value", "low", "high"))
    shown = Figure(value, low, high, figure.get("n", 0), figure.get("interval", ""))
    number, *interval = show(shown, *((".1f", 100) if percent else (".2f",))).split(" ", 1)
    return " ".join([number, *(["%"] if percent else []), *interval])
