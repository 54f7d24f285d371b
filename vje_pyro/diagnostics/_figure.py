"""Estimates with their intervals, in the form that a JSON takes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from vje_pyro.diagnostics.coverage import per_image

_LEVEL = 0.95
_RESAMPLES = 2000


def bootstrap_mean(values: ArrayLike, over: str = "images", seed: int = 0) -> dict[str, Any]:
    """Mean with its 95 % percentile bootstrap interval (Efron, 1979).

    Args:
        values: One finite value of each independent unit, ``(N,)``.
        over: What the units are, in the plural.
        seed: Of the resampling.

    Returns:
        ``value``, ``low``, ``high``, ``n`` and ``interval`` (what it is, in words).

    Example:
        >>> bootstrap_mean([1.0, 1.0])
        {'value': 1.0, 'low': 1.0, 'high': 1.0, 'n': 2, 'interval': '95% bootstrap over images'}
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    rng = np.random.default_rng(seed)
    # How often each unit is drawn: a few rows at a time, so that memory does not grow with N.
    means = [rng.multinomial(n, np.full(n, 1 / n)) @ sample / n for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return {
        "value": float(sample.mean()),
        "low": float(low),
        "high": float(high),
        "n": n,
        "interval": f"{100 * _LEVEL:g}% bootstrap over {over}",
    }


def mean_over_images(values: Tensor, images: Tensor) -> dict[str, Any]:
    """Mean of values ``(M,)`` of data: all data of an image are one unit."""
    return bootstrap_mean(per_image(values, images).cpu())
