"""Selective prediction: does an uncertainty put the errors last?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.evaluation.detection import check_scores
from vje_pyro.statistics import Figure, bootstrap, counts


def aurc(
    errors: ArrayLike, uncertainty: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""Area under the risk–coverage curve: mean error rate of the c most certain, over c = 1…N.

    .. math:: \frac1N \sum_{c=1}^N \frac1c \sum_{i \le c} e_{(i)}

    with the errors in order of increasing uncertainty; images of equal uncertainty have their mean
    error, so that their order does not matter. An uncertainty that knows nothing has the error
    rate.

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
