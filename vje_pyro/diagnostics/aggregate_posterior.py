r"""Densities of the training population: outlier scores that are densities of something.

The likelihood of an image under *its own* posterior is no density of images: the posterior depends
on the image. The evidence under the *aggregate* posterior of the training images (a VampPrior with
all images) is one:

.. math:: p(u, r) = \frac1N \sum_n p(u, r \mid z_n; \sigma_n)

with :math:`z_n` the posterior mean and :math:`\sigma_n` the scale of training image n.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.distributions.moments import moments
from vje_pyro.inference import EmbeddingModel
from vje_pyro.scores import OutlierScores

BANK = 1000
"""Training images of the sum, at most."""

_ELEMENTS_CPU, _ELEMENTS = 1 << 20, 1 << 26
"""Of an intermediate tensor, which sets the chunk of queries: on a CPU it must fit the cache."""


class AggregatePosterior:
    """Densities of the training population, as outlier scores.

    - ``population``: :math:`-\\log \\frac1N \\sum_n p(u \\mid z_n)`, of the direction alone;
    - ``population-radius``: the same of direction and radius (where it is modelled);
    - ``typicality``: distance of the last to its median over training images that are not in the
      sum: two-sided, as in Nalisnick et al. (arXiv 1906.02994) for single images;
    - ``latent``: :math:`-\\log \\frac1N \\sum_n q(\\mu(s) \\mid s_n)`, of the posterior mean under
      the aggregate posterior.

    Args:
        method: In evaluation mode; its observed sites are ``direction`` and, maybe, ``radius``.
        bank: Embeddings of training images (``method.encode``), ``(N, D)``, on its device.
        held_out: Embeddings of other training images, ``(M, D)``.
    """

    def __init__(self, method: EmbeddingModel, bank: Tensor, held_out: Tensor) -> None:
        self.method = method
        with torch.no_grad():
            self.posterior, self.scale = method.infer(bank)
            self.z = moments(self.posterior)[0]
            self.factors = self._factors(bank)
        self.typical = float(np.median(self._evidence(held_out)["population-radius"]))

    def __call__(self, embeddings: Tensor) -> OutlierScores:
        """Scores of embeddings ``(Q, D)``, each ``(Q,)``; higher is more outlying."""
        evidence = self._evidence(embeddings)
        with torch.no_grad():
            loc = moments(self.method.infer(embeddings).posterior)[0]
        return {
            **evidence,
            "typicality": np.abs(evidence["population-radius"] - self.typical),
            "latent": self._over_bank(lambda part: {"latent": self._latent(part)}, loc)["latent"],
        }

    def _evidence(self, embeddings: Tensor) -> OutlierScores:
        return self._over_bank(self._log_likelihoods, embeddings)

    def _factors(self, observed: Tensor) -> list[TorchDistribution]:
        """Likelihood of the direction and, where it is modelled, of the radius: batch ``(N,)``."""
        model = poutine.condition(self.method.model, data={"z": self.z})
        nodes: dict[str, Any] = (
            poutine.trace(model).get_trace(self.posterior, self.scale, observed).nodes
        )
        return [nodes[name]["fn"] for name in ("direction", "radius") if name in nodes]

    def _log_likelihoods(self, targets: Tensor) -> dict[str, Tensor]:
        """Log-likelihood of every target given every training image, ``(Q, N)``."""
        polar = normalize(targets, dim=-1)[:, None], targets.norm(dim=-1)[:, None]
        factors = [f.log_prob(value) for f, value in zip(self.factors, polar, strict=False)]
        return {"population": factors[0], "population-radius": torch.stack(factors).sum(0)}

    def _latent(self, loc: Tensor) -> Tensor:
        return self.posterior.log_prob(loc[:, None])

    @torch.no_grad()
    def _over_bank(
        self, log_densities: Callable[[Tensor], dict[str, Tensor]], x: Tensor
    ) -> OutlierScores:
        """Minus the log mean over the bank, in chunks of queries."""
        elements = _ELEMENTS_CPU if x.device.type == "cpu" else _ELEMENTS
        size = max(1, elements // self.z.numel())
        parts = [
            {name: log_mean_exp(v) for name, v in log_densities(part).items()}
            for part in x.split(size)
        ]
        return {name: -torch.cat([p[name] for p in parts]).cpu().numpy() for name in parts[0]}


def log_mean_exp(values: Tensor) -> Tensor:
    """Log of the mean of the exponentials over the last dimension, in float64.

    Example:
        >>> log_mean_exp(torch.tensor([[1.0, 1.0]]))
        tensor([1.], dtype=torch.float64)
    """
    return values.double().logsumexp(-1) - math.log(values.shape[-1])
