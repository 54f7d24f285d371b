"""uncertainty-v2: an uncertainty against errors, human disagreement, corruptions and crops.

Version 2 adds the R-AUROC, crops and numbers of views; all other figures are those of version 1.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.errors import VJEError
from vje_pyro.scores import (
    OutlierScores,
    aurc_figure,
    check_scores,
    detection_metrics,
    optimal_aurc,
)
from vje_pyro.statistics import Figure, Floats, Places, bootstrap, bootstrap_mean, counts

_QUERIES = 1000
"""Images at once whose neighbours are looked for."""


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


def nearest_neighbour_errors(x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
    """Whether the nearest other image by cosine has another class: the misses of recall@1.

    Of images that are equally near the first is taken. An image of zeros has cosine 0 to all.

    Args:
        x: Features, ``(N, D)``, N at least 2.
        y: Classes, ``(N,)``.

    Raises:
        ValueError: If the shapes do not fit, or there are fewer than two images.
    """
    features, classes = np.asarray(x, dtype=np.float32), np.asarray(y)
    if features.ndim != 2 or classes.shape != (len(features),) or len(features) < 2:
        raise ValueError(
            f"neighbours need features (N, D) and classes (N,) of at least two images, got "
            f"{features.shape} and {classes.shape}."
        )
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.divide(features, norm, out=np.zeros_like(features), where=norm > 0)
    nearest = np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), _QUERIES):
        rows = np.arange(start, min(start + _QUERIES, len(features)))
        cosine = directions[rows] @ directions.T
        cosine[np.arange(len(rows)), rows] = -np.inf
        nearest[rows] = cosine.argmax(1)
    errors: NDArray[np.bool_] = classes[nearest] != classes
    return errors


def r_auroc_figures(uncertainties: OutlierScores, errors: NDArray[np.bool_]) -> dict[str, Figure]:
    """``r-auroc_NAME``: AUROC of every uncertainty for the errors of the nearest neighbour.

    The probability that an image whose neighbour has another class is less certain than one whose
    neighbour has the same, ties counting half; 0.5 is chance.

    Source: Kirchhof et al., "URL: A representation learning benchmark for transferable uncertainty
    estimates" (arXiv 2307.03810).

    Args:
        uncertainties: Of N images.
        errors: :func:`nearest_neighbour_errors`, ``(N,)``.

    Raises:
        ValueError: If an uncertainty is not of all images.
        NonFiniteError: If an uncertainty is NaN.
        VJEError: If all neighbours have the right class, or none has.
    """
    if errors.all() or not errors.any():
        which = "none" if errors.all() else "all"
        raise VJEError(
            f"R-AUROC needs right and wrong nearest neighbours: {which} of {len(errors)} images "
            f"have a neighbour of their own class."
        )
    for name, values in uncertainties.items():
        if np.shape(values) != errors.shape:
            raise ValueError(
                f"uncertainties of {errors.shape} images wanted, got {np.shape(values)} of {name}."
            )

    def aurocs(right: Places, wrong: Places) -> list[Floats]:
        weights = counts(right), counts(wrong)
        pairs = ((values[~errors], values[errors]) for values in uncertainties.values())
        return [detection_metrics(*pair, *weights)["auroc"] for pair in pairs]

    sizes = int((~errors).sum()), int(errors.sum())
    figures = bootstrap(aurocs, *sizes, over="test images, right and wrong apart")
    return {f"r-auroc_{name}": f for name, f in zip(uncertainties, figures, strict=True)}


def crop_figure(whole: ArrayLike, crops: ArrayLike) -> Figure:
    """How often a crop is less certain than its whole image; a tie counts half.

    Args:
        whole: Uncertainty of N images, ``(N,)``.
        crops: Of K crops of each, ``(N, K)``; resampled together.

    Raises:
        ValueError: If the shapes do not fit.
        NonFiniteError: If a value is NaN.
    """
    of_image, of_crop = check_scores(whole, "images"), np.asarray(crops, dtype=np.float64)
    if of_crop.ndim != 2 or len(of_crop) != len(of_image) or not of_crop.size:
        raise ValueError(
            f"crops (N, K) of images (N,) wanted, got {of_crop.shape} and {of_image.shape}."
        )
    check_scores(of_crop.ravel(), "crops")
    one = of_image[:, None]
    rate = ((of_crop > one) + 0.5 * (of_crop == one)).mean(1)
    return bootstrap_mean(rate, over="test images")
