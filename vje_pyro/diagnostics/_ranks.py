"""Are ranks uniform? A test of each quantity, corrected for their number."""

import numpy as np
import torch
from scipy.stats import chi2, false_discovery_control
from torch import Tensor


def rank_histogram(positions: Tensor, num_bins: int) -> Tensor:
    """How many of N positions ``(N, Q)`` in [0, 1] are in each bin, ``(num_bins, Q)``, int64."""
    bins = (positions * num_bins).long().clamp(0, num_bins - 1)
    return torch.nn.functional.one_hot(bins, num_bins).sum(0).T


def uniform_p_values(histogram: Tensor) -> Tensor:
    """Of Pearson's chi-square test of each column of counts ``(num_bins, Q)``, ``(Q,)`` float64."""
    expected = histogram.sum(0) / len(histogram)
    statistic = ((histogram - expected).square() / expected).sum(0)
    return torch.from_numpy(np.asarray(chi2.sf(statistic.double(), len(histogram) - 1)))


def discoveries(p_values: Tensor, level: float) -> Tensor:
    """Which hypotheses are rejected at a false discovery rate of ``level``, bool ``(Q,)``.

    If all of them are true, any is rejected with probability ``level`` at most, where the tests are
    independent or depend on each other positively.

    Source: Benjamini & Hochberg (JRSS B 1995), as SciPy has it.

    Example:
        >>> discoveries(torch.tensor([1e-4, 0.02, 0.5]), 0.01).tolist()
        [True, False, False]
    """
    return torch.from_numpy(false_discovery_control(p_values.numpy()) <= level)
