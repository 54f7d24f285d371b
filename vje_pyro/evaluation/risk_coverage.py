"""Selective prediction: does an uncertainty put the errors last?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.evaluation.detection import check_scores, percentile_figure, resample_counts
from vje_pyro.evaluation.result import Figure

RESAMPLES = 1000


def aurc(errors: ArrayLike, uncertainty: ArrayLike) -> float:
    r"""Area under the risk–coverage curve: mean error rate of the c most certain, over c = 1…N.

    .. math:: \\frac1N \\sum_{c=1}^N \\frac1c \\sum_{i \\le c} e_{(i)}

    with the errors in order of increasing uncertainty; images of equal uncertainty have their mean
    error, so that their order does not matter. An uncertainty that knows nothing has the error
    rate.

    Args:
        errors: Whether each image was classified wrongly, bool, ``(N,)``.
        uncertainty: Of each image, higher is less certain, ``(N,)``.

    Raises:
        ValueError: If the two do not fit, or there are no images.
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
    _, group, size = np.unique(values[order], return_inverse=True, return_counts=True)
    smoothed = (np.bincount(group, weights=wrong[order]) / size)[group]
    return float((smoothed.cumsum() / np.arange(1, len(values) + 1)).mean())


def aurc_figure(
    errors: ArrayLike, uncertainty: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Figure:
    """:func:`aurc` with its percentile bootstrap interval over test images."""
    wrong, values = np.asarray(errors), np.asarray(uncertainty)
    draws = [
        aurc(np.repeat(wrong, row), np.repeat(values, row))
        for row in resample_counts(len(values), resamples, (seed,))
    ]
    interval = "95% bootstrap over test images"
    return percentile_figure(aurc(wrong, values), np.array(draws), len(values), interval)


def optimal_aurc(errors: NDArray[np.bool_]) -> float:
    """AURC of the best uncertainty there could be: all errors last."""
    return aurc(errors, np.asarray(errors).astype(float))
