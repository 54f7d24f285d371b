"""The spectrum of a set of features: how many directions they really use."""

import numpy as np
from numpy.typing import NDArray


def spectrum(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Eigenvalues of the features' covariance, largest first, shape ``(D,)``, in features².

    Args:
        x: Features, shape ``(N, D)``, N at least 2.

    Raises:
        ValueError: If ``x`` is not a matrix with at least two rows.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x must be a matrix with at least two rows, got shape {x.shape}")
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred / (len(x) - 1))[::-1]
    return np.maximum(eigenvalues, 0)  # a covariance has no negative ones; rounding makes them
