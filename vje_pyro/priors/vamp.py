"""The VampPrior: a mixture of the guide's own posteriors."""

import torch
from pyro.distributions import Categorical, MixtureSameFamily, TorchDistribution
from torch import nn

from vje_pyro.priors.prior import Infer, Prior
from vje_pyro.ranges import PositiveFloat, Width


class VampPrior(Prior):
    r"""Mixture of the posteriors of learned pseudo-embeddings, :math:`\frac1K\sum_k q(z\mid s_k)`.

    The pseudo-inputs of Tomczak & Welling are images; here they are embeddings, which is what the
    guide reads. Other arguments and errors are those of :class:`Prior`.

    Args:
        num_components: Number K of pseudo-embeddings.
        scale: Spread of the pseudo-embeddings at the start; embeddings have unit variance.

    Source: Tomczak & Welling, "VAE with a VampPrior" (arXiv 1705.07120), equation 9.
    """

    def __init__(
        self, num_features: int, num_components: Width = 50, scale: PositiveFloat = 1.0
    ) -> None:
        super().__init__(num_features, scale)
        if num_components < 1:
            raise ValueError(f"num_components must be positive, got {num_components}.")
        self.pseudo_embeddings = nn.Parameter(scale * torch.randn(num_components, num_features))

    def forward(self, infer: Infer) -> TorchDistribution:
        """The mixture of the posteriors that ``infer`` gives for the pseudo-embeddings."""
        weights = Categorical(logits=torch.zeros_like(self.pseudo_embeddings[:, 0]))
        return MixtureSameFamily(weights, infer(self.pseudo_embeddings))
