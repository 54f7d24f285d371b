"""How well a score tells outliers from inliers: AUROC, AUPR and FPR at 95 % TPR.

Everywhere in this package a score is higher for what is more outlying (the convention of
pytorch-ood), and the outliers are the positives.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation.result import Figure

METRICS = ("auroc", "aupr", "fpr95")
RESAMPLES = 1000

_ROWS = 100
"""Resamples at once."""

Floats = NDArray[np.float64]

OutlierScores = dict[str, Floats]
"""Scores of N images by name, each ``(N,)``; higher is more outlying."""


def detection_metrics(
    inliers: ArrayLike,
    outliers: ArrayLike,
    inlier_weights: ArrayLike | None = None,
    outlier_weights: ArrayLike | None = None,
) -> dict[str, Floats]:
    """The metrics, in closed form; equal scores are one threshold.

    ``auroc``: probability that an outlier scores above an inlier, ties counting half. ``aupr``:
    average precision of finding the outliers; a score that knows nothing has their share.
    ``fpr95``: share of the inliers flagged at the highest threshold that flags 95 % of the
    outliers.

    Args:
        inliers: Scores of N inliers.
        outliers: Scores of M outliers.
        inlier_weights: How often each inlier counts, ``(..., N)``, not negative; once when None.
        outlier_weights: The same of the outliers, ``(..., M)``.

    Returns:
        Each metric as an array of the weights' leading shape.

    Raises:
        ValueError: If there are no inliers, no outliers, or scores are no vectors.
        NonFiniteError: If a score is NaN.
    """
    low, high = check_scores(inliers, "inliers"), check_scores(outliers, "outliers")
    negative = np.ones(len(low)) if inlier_weights is None else np.asarray(inlier_weights)
    positive = np.ones(len(high)) if outlier_weights is None else np.asarray(outlier_weights)
    scores = np.concatenate([low, high])
    order = np.argsort(-scores, kind="stable")
    is_outlier = order >= len(low)
    ends = np.append(scores[order][1:] != scores[order][:-1], True)  # of runs of equal scores
    place = np.where(is_outlier, order - len(low), order)
    flagged = np.where(is_outlier, 0, negative[..., np.where(is_outlier, 0, place)])
    found = np.where(is_outlier, positive[..., np.where(is_outlier, place, 0)], 0)
    fp = flagged.cumsum(-1, dtype=np.float64)[..., ends]
    tp = found.cumsum(-1, dtype=np.float64)[..., ends]
    tpr, fpr = tp / tp[..., -1:], fp / fp[..., -1:]
    precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
    steps = np.diff(tpr, axis=-1, prepend=0)
    first = (tpr >= 0.95 * (1 - 1e-12)).argmax(-1)
    return {
        "auroc": (np.diff(fpr, axis=-1, prepend=0) * (tpr - steps / 2)).sum(-1),
        "aupr": (steps * precision).sum(-1),
        "fpr95": np.take_along_axis(fpr, first[..., None], -1)[..., 0],
    }


def detection_figures(
    inliers: ArrayLike, outliers: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Figure]:
    """The metrics with percentile bootstrap intervals, inliers and outliers resampled apart.

    The resamples of a seed are the same for all scores of the same images. The intervals cover
    the choice of test images, not that of training seed.

    Args:
        inliers: Scores of N inliers.
        outliers: Scores of M outliers.
        resamples: How many bootstrap resamples.
        seed: Of the resampling.

    Raises:
        ValueError: As :func:`detection_metrics`.
        NonFiniteError: If a score is NaN.
    """
    values = detection_metrics(inliers, outliers)
    counts = [
        resample_counts(np.size(scores), resamples, (seed, place))
        for place, scores in enumerate((inliers, outliers))
    ]
    draws = [
        detection_metrics(inliers, outliers, *rows)
        for rows in zip(*(_chunks(c) for c in counts), strict=True)
    ]
    return {
        name: percentile_figure(
            float(values[name]),
            np.concatenate([draw[name] for draw in draws]),
            np.size(inliers) + np.size(outliers),
            "95% stratified bootstrap over test images",
        )
        for name in METRICS
    }


@lru_cache(maxsize=16)
def resample_counts(n: int, resamples: int, seed: tuple[int, ...]) -> NDArray[np.uint8]:
    """How often each of n things is in each bootstrap resample, ``(resamples, n)``."""
    rng = np.random.default_rng(seed)
    rows = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(resamples)]
    counts = np.stack(rows).astype(np.uint8)
    counts.flags.writeable = False  # it is shared by all who ask
    return counts


def percentile_figure(value: float, draws: Floats, n: int, interval: str) -> Figure:
    """A figure with the central 95 % of its bootstrap draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(value, float(low), float(high), n, interval)


def check_scores(scores: ArrayLike, what: str) -> Floats:
    """Scores as a float64 vector.

    Raises:
        ValueError: If they are no vector, or none.
        NonFiniteError: If one is NaN; infinite scores are scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"scores of {what} must be a non-empty vector, got shape {values.shape}.")
    missing = np.isnan(values)
    if missing.any():
        raise NonFiniteError(
            f"{missing.sum()} of {values.size} {what} have a NaN score, the first is "
            f"{missing.argmax()}: the method's densities break down there; try another checkpoint."
        )
    return values


def _chunks(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]
