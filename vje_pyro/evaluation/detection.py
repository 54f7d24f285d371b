"""How well a score tells outliers from inliers: AUROC, AUPR and FPR at 95 % TPR.

Everywhere in this package a score is higher for what is more outlying (the convention of
pytorch-ood), and the outliers are the positives.
"""

import numpy as np
from numpy.typing import ArrayLike

from vje_pyro.errors import NonFiniteError
from vje_pyro.statistics import Figure, Floats, Places, bootstrap, counts

METRICS = ("auroc", "aupr", "fpr95")

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


def detection_figures(inliers: OutlierScores, outliers: OutlierScores) -> dict[str, Figure]:
    """``auroc_NAME``, ``aupr_NAME`` and ``fpr95_NAME`` of every score, with bootstrap intervals.

    Inliers and outliers are resampled apart, for all scores together.

    Args:
        inliers: Scores of N inliers.
        outliers: Scores of M outliers.

    Raises:
        ValueError: If the two do not hold the same scores; else as :func:`detection_metrics`.
        NonFiniteError: If a score is NaN.
    """
    if inliers.keys() != outliers.keys():
        raise ValueError(f"scores {sorted(inliers)} and {sorted(outliers)} are not the same.")

    def metrics(of_inliers: Places, of_outliers: Places) -> list[Floats]:
        weights = counts(of_inliers), counts(of_outliers)
        each = (detection_metrics(inliers[name], outliers[name], *weights) for name in inliers)
        return [found[metric] for found in each for metric in METRICS]

    sizes = (np.size(next(iter(scores.values()))) for scores in (inliers, outliers))
    figures = bootstrap(metrics, *sizes, over="test images, inliers and outliers apart")
    names = (f"{metric}_{name}" for name in inliers for metric in METRICS)
    return dict(zip(names, figures, strict=True))


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
