"""The learning rate over a run: warm-up with cosine decay."""

import math
from dataclasses import dataclass

from torch.optim import Optimizer

from vje_pyro.ranges import Probability, ProperFraction


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine, as a factor on the learning rate.

    Source: Loshchilov & Hutter, "SGDR: Stochastic gradient descent with warm restarts" (ICLR 2017).

    Args:
        warmup: Share of all steps that warm up, in [0, 1).
        final: Factor that the cosine approaches at the end, in [0, 1].

    Raises:
        ValueError: An argument out of its range.

    Example:
        >>> schedule = WarmupCosine(warmup=0.5)
        >>> [round(schedule(step, 8), 3) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    warmup: ProperFraction = 0.05
    final: Probability = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of all steps in [0, 1), got {self.warmup}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final is a factor in [0, 1], got {self.final}")

    def __call__(self, step: int, total_steps: int) -> float:
        """Factor for ``step`` (from 0) of ``total_steps``."""
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final + (1 - self.final) * cosine


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Set each group's ``lr`` to ``factor`` times its first one; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
    return float(optimizer.param_groups[0]["lr"])
