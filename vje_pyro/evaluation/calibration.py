"""Are class probabilities as right as they say?"""

import numpy as np
from numpy.typing import NDArray

BINS = 15


def expected_calibration_error(
    probabilities: NDArray[np.floating], y: NDArray[np.integer], bins: int = BINS
) -> float:
    """Expected calibration error of the predicted class, in [0, 1].

    Images are binned by the probability of their most probable class, in bins of equal width; the
    error is the mean over images of the distance, in their bin, of accuracy to mean probability.

    Args:
        probabilities: Class probabilities, ``(N, C)``.
        y: Classes 0 … C − 1, ``(N,)``.
        bins: How many bins.

    Source: Naeini, Cooper & Hauskrecht (AAAI 2015); of the predicted class as in Guo et al., "On
    calibration of modern neural networks" (ICML 2017).

    Example:
        >>> expected_calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
        0.25
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
