"""What a score of images is worth: AUROC, AUPR, FPR at 95 % TPR, AURC and rank correlation.

Everywhere in this package a score is higher for what is more outlying or less certain (the
convention of pytorch-ood), and outliers are the positives.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

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
    average precision of finding the outliers. ``fpr95``: share of the inliers flagged at the
    highest threshold that flags 95 % of the outliers.

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

    Inliers and outliers are resampled apart, for all scores together. Errors are those of
    :func:`detection_metrics`, and ValueError if the two do not hold the same scores.
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


def aurc(
    errors: ArrayLike, uncertainty: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""Area under the risk–coverage curve: mean error rate of the c most certain, over c = 1…N.

    .. math:: \frac1N \sum_{c=1}^N \frac1c \sum_{i \le c} e_{(i)}

    with the errors in order of increasing uncertainty; images of equal uncertainty have their mean
    error. An uncertainty that knows nothing has the error rate.

    Args:
        errors: Whether each image was classified wrongly, bool, ``(N,)``.
        uncertainty: Of each image, higher is less certain, ``(N,)``.
        weights: How often each image counts, whole numbers ``(..., N)``; once when None.

    Returns:
        Of the weights' leading shape.

    Raises:
        ValueError: If errors and uncertainty do not fit, or there are no images.
        NonFiniteError: If an uncertainty is NaN.

    Source: Geifman, Uziel & El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
    classifiers" (ICLR 2019); the treatment of ties is this project's.
    """
    values = check_scores(uncertainty, "images")
    wrong = np.asarray(errors)
    if wrong.shape != values.shape or wrong.dtype != np.bool_:
        raise ValueError(
            f"errors must be a boolean vector of {len(values)} images, got {wrong.dtype} of shape "
            f"{wrong.shape}."
        )
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) != 0))  # of equal uncertainties
    each = np.ones(len(values), int) if weights is None else np.asarray(weights).astype(int)
    size = np.add.reduceat(each[..., order], starts, axis=-1)
    false = np.add.reduceat((each * wrong)[..., order], starts, axis=-1)
    size_before, false_before = size.cumsum(-1) - size, false.cumsum(-1) - false
    total = size.sum(-1)
    # Within a group of m images with e errors, after c images with f errors, the sum over j of
    # (f + j e / m) / (c + j), which a difference of harmonic numbers gives.
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, total.max() + 1)))
    rate = false / np.maximum(size, 1)
    terms = harmonic[size_before + size] - harmonic[size_before]
    area: NDArray[np.float64] = (false + (false_before - rate * size_before) * terms).sum(-1)
    return area / total


def aurc_figure(errors: ArrayLike, uncertainty: ArrayLike) -> Figure:
    """:func:`aurc` with its bootstrap interval over test images."""
    n = np.size(uncertainty)
    (figure,) = bootstrap(lambda places: aurc(errors, uncertainty, counts(places)), n)
    return figure


def optimal_aurc(errors: NDArray[np.bool_]) -> float:
    """AURC of the best uncertainty there could be: all errors last."""
    return float(aurc(errors, np.asarray(errors).astype(float)))


def spearman_figure(first: ArrayLike, second: ArrayLike) -> Figure:
    """Spearman's rank correlation over images, with its bootstrap interval.

    Args:
        first: ``(N,)``, or ``(N, S)`` for several values of an image, which are resampled together.
        second: Of the same shape.

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
    (figure,) = bootstrap(lambda places: _spearman(pairs[:, places]), n)
    return figure


def _spearman(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlations ``(R,)`` of ``(2, R, N, S)``; 0 where a resample's values are all alike."""
    ranks = rankdata(pairs.reshape(*pairs.shape[:2], -1), axis=-1)
    one, two = ranks - ranks.mean(-1, keepdims=True)
    scale = np.sqrt((one**2).sum(-1) * (two**2).sum(-1))
    return np.divide((one * two).sum(-1), scale, out=np.zeros_like(scale), where=scale > 0)
