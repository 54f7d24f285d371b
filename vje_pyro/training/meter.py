"""Means of a step's scalars, kept on the device until somebody reads them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fault:
    """Terms that were not finite at a step (the number of steps done), the first such step."""

    step: int
    values: dict[str, float]

    def __str__(self) -> str:
        terms = ", ".join(f"{name} = {value}" for name, value in self.values.items())
        return f"{terms} at step {self.step}"


class Meter:
    """Collects named scalars of each step and averages them over an interval and an epoch.

    ``add`` only queues device tensors; ``fetch`` brings all of them to the host in one transfer.
    Sums are float64, so that a meter restored from :meth:`state` goes on bit for bit.

    Args:
        reduce: Averages a tensor over all processes (``fabric.all_reduce``).
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
        self._reduce = reduce
        self._names: list[str] = []
        self._terms: frozenset[str] = frozenset()
        self._queue: list[Tensor] = []
        self._steps: list[int] = []
        self._interval = _Mean()
        self._epoch = _Mean()

    def add(self, step: int, terms: Mapping[str, Tensor], monitors: Mapping[str, Tensor]) -> None:
        """Queue one step.

        Args:
            step: Steps done, this one included.
            terms: Scalars that must be finite (the loss and its parts).
            monitors: Scalars that need not be.

        Raises:
            ValueError: The names differ from those of the step before, or occur twice.
        """
        names = [*terms, *monitors]
        if self._names and names != self._names:
            raise ValueError(
                f"the loss named {names} at step {step}, but {self._names} before: a method must "
                "return the same parts and monitors at every step"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"a name occurs twice among the loss's parts and monitors: {names}")
        self._names, self._terms = names, frozenset(terms)
        scalars = [value.detach().float() for value in (*terms.values(), *monitors.values())]
        self._queue.append(torch.stack(scalars))
        self._steps.append(step)

    def fetch(self) -> Fault | None:
        """Bring the queued steps to the host; return the first fault among them, if any."""
        if not self._queue:
            return None
        rows = self._reduce(torch.stack(self._queue)).tolist()
        steps, self._queue, self._steps = self._steps, [], []
        for step, row in zip(steps, rows, strict=True):
            named = dict(zip(self._names, row, strict=True))
            bad = {k: v for k, v in named.items() if k in self._terms and not math.isfinite(v)}
            if bad:
                return Fault(step, bad)
            self._interval.add(row)
            self._epoch.add(row)
        return None

    def interval(self) -> dict[str, float]:
        """Means of the fetched steps since the last call; empty if there were none."""
        return self._interval.take(self._names)

    def epoch(self) -> dict[str, float]:
        """Means of the fetched steps since the last call of this method."""
        return self._epoch.take(self._names)

    def state(self) -> dict[str, Any]:
        """JSON-like state of the fetched part."""
        return {
            "names": self._names,
            "interval": [self._interval.count, self._interval.sums],
            "epoch": [self._epoch.count, self._epoch.sums],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self._names = list(state["names"])
        self._interval = _Mean(*state["interval"])
        self._epoch = _Mean(*state["epoch"])


class _Mean:
    def __init__(self, count: int = 0, sums: list[float] | None = None) -> None:
        self.count = count
        self.sums = list(sums or [])

    def add(self, row: list[float]) -> None:
        self.count += 1
        self.sums = [a + b for a, b in zip(self.sums, row, strict=True)] if self.sums else list(row)

    def take(self, names: list[str]) -> dict[str, float]:
        means = {name: total / self.count for name, total in zip(names, self.sums, strict=False)}
        self.count, self.sums = 0, []
        return means
