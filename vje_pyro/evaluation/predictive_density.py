"""One Gaussian of all training images, and how improbable a new one is under it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.distributions.moments import moments
from vje_pyro.heads.normal_inverse_wishart import NormalInverseWishart, Statistics
from vje_pyro.scores import OutlierScores


class PredictiveDensity:
    r"""Minus the log predictive density of one Gaussian under a normal-inverse-Wishart prior.

    It is the predictive of :class:`~vje_pyro.heads.GaussianHead` for a single class, a Student t
    in closed form. The weak prior expects the covariance to be :math:`\tau I`, with :math:`\tau`
    the mean variance of a feature, at :math:`\nu = D + 2`, the fewest degrees of freedom with a
    mean. Features are not normalised.

    Args:
        bank: Training features, ``(N, D)``.

    Raises:
        ValueError: If the training features do not differ.
    """

    def __init__(self, bank: NDArray[np.floating]) -> None:
        x = bank.astype(np.float64)
        self.mean = x.mean(0)
        dim = x.shape[1]
        prior = NormalInverseWishart(
            np.zeros((1, dim)), np.ones(1), x.var(0).mean() * np.eye(dim), dim + 2.0
        )
        self.law = prior.update(Statistics.of(x - self.mean, np.zeros(len(x), np.intp), 1))

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores of features ``(N, D)``, nats."""
        return -self.law.log_predictive(x.astype(np.float64) - self.mean)[:, 0]


class LatentDensity:
    """The same of the posterior's mean: ``niw-latent``.

    Args:
        method: A method with ``infer``, in evaluation mode.
        bank: Embeddings of training images (``method.encode``), ``(N, D)``, on its device.
    """

    def __init__(self, method: Any, bank: Tensor) -> None:
        self.method = method
        self.density = PredictiveDensity(self._means(bank))

    def __call__(self, embeddings: Tensor) -> OutlierScores:
        """``niw-latent`` of embeddings ``(Q, D)``, ``(Q,)``; higher is more outlying."""
        return {"niw-latent": self.density(self._means(embeddings))}

    @torch.no_grad()
    def _means(self, embeddings: Tensor) -> NDArray[np.float64]:
        means: NDArray[np.float64] = (
            moments(self.method.infer(embeddings).posterior)[0].double().cpu().numpy()
        )
        return means
