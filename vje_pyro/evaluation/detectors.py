"""Distances to the training features: outlier scores of any method, without labels."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from vje_pyro.evaluation.knn import default_k, nearest

Detector = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From features ``(N, D)`` to outlier scores ``(N,)``."""


class KNNDistance:
    """Cosine distance to the k-th nearest training image, in [0, 2].

    Args:
        bank: Training features, ``(N, D)``.
        k: Neighbours; None is that of knn-v1: 200, or 20 for less than 20,000 images, and never
            more than there are.

    Raises:
        ValueError: If k is below 1 or above N.

    Source: Sun, Ming, Zhu & Li, "Out-of-distribution detection with deep nearest neighbors" (ICML
    2022), whose Euclidean distance of normalised features orders the same.
    """

    def __init__(self, bank: NDArray[np.float32], k: int | None = None) -> None:
        self.k = default_k(len(bank)) if k is None else k
        if not 1 <= self.k <= len(bank):
            raise ValueError(f"k must be between 1 and the bank's {len(bank)} images, got {k}.")
        self.bank = torch.from_numpy(bank)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of features ``(N, D)``."""
        similarities, _ = nearest(torch.from_numpy(x), self.bank, self.k)
        scores: NDArray[np.float64] = 1 - similarities[:, -1].double().numpy()
        return scores


class Mahalanobis:
    """Squared Mahalanobis distance to the mean of all training images.

    One Gaussian with the Ledoit–Wolf covariance, which needs neither labels nor a choice.

    Args:
        bank: Training features, ``(N, D)``, N at least 2.
    """

    def __init__(self, bank: NDArray[np.floating]) -> None:
        self.gaussian = LedoitWolf().fit(bank.astype(np.float64))

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores of features ``(N, D)``."""
        scores: NDArray[np.float64] = self.gaussian.mahalanobis(x.astype(np.float64))
        return scores


FEATURE_DETECTORS: dict[str, Callable[[NDArray[np.float32]], Detector]] = {
    "knn": KNNDistance,
    "mahalanobis": Mahalanobis,
}
"""Made from training features; the name is that of the score."""
