"""A mixture of Gaussians whose components are learned."""

import torch
from pyro.distributions import Categorical, MixtureSameFamily, Normal, TorchDistribution
from torch import nn

from vje_pyro.priors.prior import Infer, Prior
from vje_pyro.ranges import PositiveFloat, Width


class MixturePrior(Prior):
    """Mixture of diagonal Gaussians with learned weights, locations and scales.

    Other arguments and errors are those of :class:`Prior`.

    Args:
        num_components: Number of Gaussians.
        scale: Scale of every component and spread of their locations at the start.

    Source: this project.
    """

    def __init__(
        self, num_features: int, num_components: Width = 10, scale: PositiveFloat = 1.0
    ) -> None:
        super().__init__(num_features, scale)
        if num_components < 1:
            raise ValueError(f"num_components must be positive, got {num_components}.")
        shape = (num_components, num_features)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(scale * torch.randn(shape))
        # The logarithm of a scale relative to the given one: weight decay pulls it to that.
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self, infer: Infer) -> TorchDistribution:
        """The mixture; ``infer`` is not used."""
        components = Normal(self.loc, self.scale * self.log_scale.exp()).to_event(1)
        return MixtureSameFamily(Categorical(logits=self.logits), components)
