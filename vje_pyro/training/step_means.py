"""Means of a step's scalars, kept on the device until somebody reads them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class NonFinite:
    """Terms that were not finite at a step (the number of steps done), the first such step."""

    step: int
    values: dict[str, float]

    def __str__(self) -> str:
        terms = ", ".join(f"{name} = {value}" for name, value in self.values.items())
        return f"{terms} at step {self.step}"


class StepMeans:
    """Averages named scalars of the steps over an interval and over an epoch.

    ``add`` only queues device tensors; ``fetch`` brings all of them to the host in one transfer.
    Sums are float64, so that means restored from :meth:`state` go on bit for bit.

    Args:
        reduce: Averages a tensor over all processes (``fabric.all_reduce``).
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
        self._reduce = reduce
        self._names: list[str] = []
        self._num_terms = 0
        self._queue: list[tuple[int, Tensor]] = []
        self._sums: dict[str, tuple[int, list[float]]] = {"interval": (0, []), "epoch": (0, [])}

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
        self._names, self._num_terms = names, len(terms)
        scalars = [value.detach().float() for value in (*terms.values(), *monitors.values())]
        self._queue.append((step, torch.stack(scalars)))

    def fetch(self) -> NonFinite | None:
        """Bring the queued steps to the host; return the first that is not finite, if any is."""
        if not self._queue:
            return None
        steps, rows = zip(*self._queue, strict=True)
        self._queue = []
        for step, row in zip(steps, self._reduce(torch.stack(rows)).tolist(), strict=True):
            terms = list(zip(self._names, row, strict=True))[: self._num_terms]
            if bad := {name: value for name, value in terms if not math.isfinite(value)}:
                return NonFinite(step, bad)
            for kind, (count, sums) in self._sums.items():
                sums = [a + b for a, b in zip(sums, row, strict=True)] if count else row
                self._sums[kind] = count + 1, sums
        return None

    def take(self, kind: Literal["interval", "epoch"]) -> dict[str, float]:
        """Means of the fetched steps since the last call with this ``kind``."""
        count, sums = self._sums[kind]
        self._sums[kind] = 0, []
        return {name: total / count for name, total in zip(self._names, sums, strict=False)}

    def state(self) -> dict[str, Any]:
        """JSON-like state of the fetched part: names, and of each kind a count and sums."""
        return {"names": self._names, **{kind: list(pair) for kind, pair in self._sums.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self._names = list(state["names"])
        self._sums = {kind: (state[kind][0], list(state[kind][1])) for kind in self._sums}
