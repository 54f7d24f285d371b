"""The recommended score of a probabilistic method: how unusual is what it says of an image?"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from vje_pyro.distributions.moments import moments
from vje_pyro.scores import OutlierScores

RECOMMENDED = "posterior-gaussian"
"""The model's score to use, chosen on training images alone (``studies/outlier_choice.py``)."""


class PosteriorGaussian:
    r"""Squared Mahalanobis distance of :math:`(\mu(s), \log\sigma(s))` to the training images'.

    It stands for a density of the training population: that of the posterior's parameters, where
    z is and how sure the method is of it, by the Gaussian of its mean and Ledoit–Wolf covariance.

    Args:
        method: A method with ``infer``, in evaluation mode.
        bank: Embeddings of training images (``method.encode``), ``(N, D)``, on its device.
    """

    def __init__(self, method: Any, bank: Tensor) -> None:
        self.method = method
        self.gaussian = LedoitWolf().fit(self._parameters(bank))

    def __call__(self, embeddings: Tensor) -> OutlierScores:
        """``posterior-gaussian`` of embeddings ``(Q, D)``, ``(Q,)``; higher is more outlying."""
        return {RECOMMENDED: self.gaussian.mahalanobis(self._parameters(embeddings))}

    @torch.no_grad()
    def _parameters(self, embeddings: Tensor) -> NDArray[np.float64]:
        loc, scale = moments(self.method.infer(embeddings).posterior)
        parameters: NDArray[np.float64] = torch.cat([loc, scale.log()], 1).double().cpu().numpy()
        return parameters
