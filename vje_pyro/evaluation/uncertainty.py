"""uncertainty-v1: do errors, people's doubts and corruptions raise an uncertainty?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from vje_pyro.evaluation.detection import (
    OutlierScores,
    check_scores,
    percentile_figure,
    resample_counts,
)
from vje_pyro.evaluation.result import Figure
from vje_pyro.evaluation.risk_coverage import RESAMPLES, aurc_figure, optimal_aurc

_INTERVAL = "95% bootstrap over test images"
_ROWS = 50
"""Resamples at once."""


def selective_figures(
    uncertainties: OutlierScores, errors: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Figure]:
    """``aurc_CLASSIFIER_NAME`` of every classifier's errors under every uncertainty."""
    return {
        f"aurc_{classifier}_{name}": aurc_figure(wrong, values)
        for classifier, wrong in errors.items()
        for name, values in uncertainties.items()
    }


def selective_details(errors: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    """The error rate (the AURC of knowing nothing) and the least AURC, of every classifier."""
    return {
        f"{what}_{classifier}": value
        for classifier, wrong in errors.items()
        for what, value in (("error", float(wrong.mean())), ("best_aurc", optimal_aurc(wrong)))
    }


def spearman_figure(
    first: ArrayLike, second: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Figure:
    """Spearman's rank correlation over images, with its bootstrap interval.

    Args:
        first: ``(N,)``, or ``(N, S)`` for several values of an image, which are resampled
            together.
        second: Of the same shape.
        resamples: How many bootstrap resamples.
        seed: Of the resampling.

    Raises:
        ValueError: If the shapes differ, there are less than two values, or one side is constant.
        NonFiniteError: If a value is NaN.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim not in (1, 2) or one.size < 2:
        raise ValueError(
            f"a rank correlation needs two arrays of one shape, got {one.shape} and {two.shape}."
        )
    for values in (one, two):
        check_scores(values.ravel(), "values")
        if np.ptp(values) == 0:
            raise ValueError(
                f"a rank correlation needs values that differ; all are {values.max()}."
            )
    n = len(one)
    pairs = np.stack([one.reshape(n, -1), two.reshape(n, -1)])
    rng = np.random.default_rng(seed)
    draws = [
        _spearman(pairs[:, rng.integers(0, n, (min(_ROWS, resamples - start), n))])
        for start in range(0, resamples, _ROWS)
    ]
    value = float(_spearman(pairs[:, None])[0])
    return percentile_figure(value, np.concatenate(draws), n, _INTERVAL)


def _spearman(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlations ``(R,)`` of ``(2, R, N, S)``; 0 where a resample's values are all alike."""
    ranks = rankdata(pairs.reshape(*pairs.shape[:2], -1), axis=-1)
    one, two = ranks - ranks.mean(-1, keepdims=True)
    scale = np.sqrt((one**2).sum(-1) * (two**2).sum(-1))
    return np.divide((one * two).sum(-1), scale, out=np.zeros_like(scale), where=scale > 0)


def calibration_figure(
    pit: ArrayLike, images: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Figure:
    """Calibration error of predictions: mean over levels of |coverage − level|, in [0, 1/2].

    The levels are 5 %, 10 %, …, 95 %, of central intervals.

    Args:
        pit: Probability integral transform of every datum, in [0, 1], ``(M,)``.
        images: Which image each datum is of, ``(M,)``; resampled together.
        resamples: How many bootstrap resamples.
        seed: Of the resampling.

    Raises:
        ValueError: If the two differ in shape or are empty.
    """
    value, image = np.asarray(pit, dtype=np.float64), np.asarray(images)
    if value.ndim != 1 or value.shape != image.shape or not value.size:
        raise ValueError(f"pit and images must be vectors alike: {value.shape}, {image.shape}.")
    levels = np.arange(1, 20) / 20
    inside = np.abs(2 * value[:, None] - 1) <= levels + 1e-12
    _, group = np.unique(image, return_inverse=True)
    n = group.max() + 1
    hits = np.zeros((n, len(levels)))
    np.add.at(hits, group, inside)
    count = np.bincount(group)
    weights = resample_counts(n, resamples, (seed,)).astype(np.float64)

    def error(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        coverage = rows @ hits / (rows @ count)[:, None]
        result: NDArray[np.float64] = np.abs(coverage - levels).mean(1)
        return result

    return percentile_figure(
        float(error(np.ones((1, n)))[0]), error(weights), int(n), "95% bootstrap over images"
    )
