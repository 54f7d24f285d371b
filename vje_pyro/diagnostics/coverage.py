"""Do intervals hold what they promise? Coverage at every level, with intervals over images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro.diagnostics._images import per_image
from vje_pyro.statistics import LEVEL, Figure, Floats, Places, bootstrap, counts

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Nominal levels 5 %, 10 %, …, 95 %."""


@dataclass(frozen=True)
class Coverage:
    """How often intervals of each nominal level hold the observation.

    Args:
        levels: Nominal levels in (0, 1), ``(L,)``.
        central: Coverage of the central intervals, between the quantiles (1 ∓ level)/2, ``(L,)``.
        central_interval: Its 95 % bootstrap interval over images, ``(L, 2)``.
        lower: Coverage of the lower tails, "the value is at most its level-quantile", ``(L,)``.
        lower_interval: Its interval, ``(L, 2)``.
        num_images: Number of images.
        error: Calibration error in [0, 1/2]: the mean over evenly spread levels of
            ``abs(central coverage − level)``.
    """

    levels: Tensor
    central: Tensor
    central_interval: Tensor
    lower: Tensor
    lower_interval: Tensor
    num_images: int
    error: Figure

    def at(self, level: float, tail: str = "central") -> dict[str, Any]:
        """Coverage at one of the levels, with its interval, as a figure.

        Raises:
            ValueError: If the level is not among ``levels``, or ``tail`` is unknown.
        """
        if tail not in ("central", "lower"):
            raise ValueError(f"tail must be 'central' or 'lower', got {tail!r}.")
        found = (self.levels - level).abs() < 1e-6
        if not found.any():
            raise ValueError(f"level {level} is not among {self.levels.tolist()}.")
        low, high = getattr(self, f"{tail}_interval")[found][0].tolist()
        return {
            "value": getattr(self, tail)[found].item(),
            "low": low,
            "high": high,
            "n": self.num_images,
            "interval": f"{100 * LEVEL:g}% bootstrap over images",
        }

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON: the curves, and the coverage at every level with its interval."""
        levels = [round(level, 4) for level in self.levels.tolist()]
        return {
            "levels": levels,
            "central": {f"{level:g}": self.at(level) for level in levels},
            "lower": {f"{level:g}": self.at(level, "lower") for level in levels},
            "largest_central_error": (self.central - self.levels).abs().max().item(),
        }


def expected_coverage(
    pit: Tensor, images: Tensor, levels: Sequence[float] = LEVELS, seed: int = 0
) -> Coverage:
    """Coverage of predictive intervals, from where the observations lie in their predictions.

    Args:
        pit: Probability integral transform of every datum, in [0, 1], ``(M,)``, such as
            ``predictive_check(pairs).angle.pit``.
        images: Which image each datum is of, ``(M,)``. The data of one image depend on each other,
            so the bootstrap resamples images, each with all its data.
        levels: Nominal levels, in (0, 1).
        seed: Of the resampling.

    Raises:
        ValueError: If the two differ in shape or are empty, a PIT leaves [0, 1], or a level is
            outside (0, 1).

    Example:
        >>> uniform = torch.linspace(0.005, 0.995, 100)
        >>> expected_coverage(uniform, torch.arange(100)).at(0.5)["value"]
        0.5
    """
    if pit.dim() != 1 or pit.shape != images.shape or not len(pit):
        raise ValueError(
            f"pit and images must be vectors of one length, got shapes {tuple(pit.shape)} and "
            f"{tuple(images.shape)}."
        )
    if not bool(((pit >= 0) & (pit <= 1)).all()):
        raise ValueError("pit must lie in [0, 1] everywhere: it is a probability.")
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must lie in (0, 1), got {list(levels)}.")
    level = torch.tensor(levels, dtype=torch.float64)
    value = pit.double()[:, None]
    central, lower = (2 * value - 1).abs() <= level, value <= level
    hits = per_image(torch.cat([central, lower], dim=1).double(), images)
    rows, n = hits.numpy(), len(level)

    def coverage(places: Places) -> Floats:
        means = counts(places) @ rows / len(rows)
        error = np.abs(means[:, :n] - level.numpy()).mean(1, keepdims=True)
        return np.hstack([means, error]).T

    *figures, error = bootstrap(coverage, len(rows), over="images", seed=seed)
    interval = torch.tensor([[f.low, f.high] for f in figures], dtype=torch.float64)
    mean = hits.mean(0)
    return Coverage(level, mean[:n], interval[:n], mean[n:], interval[n:], len(hits), error)
