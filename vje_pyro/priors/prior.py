"""What every prior is: a module that gives the distribution of z."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from vje_pyro.ranges import PositiveFloat

Infer = Callable[[Tensor], TorchDistribution]


class Prior(nn.Module, ABC):
    """Prior of z, of batch shape () and event shape ``(D,)``.

    Args:
        num_features: Dimension D of z.
        scale: Scale of every feature, positive; with 1 the norm of z is about √D.

    Raises:
        ValueError: If a size, the scale or another parameter is not positive and finite.
    """

    zero: Tensor

    def __init__(self, num_features: int, scale: PositiveFloat = 1.0) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features must be positive, got {num_features}.")
        if not 0 < scale < math.inf:
            raise ValueError(f"the prior's scale must be positive and finite, got {scale}.")
        self.num_features = num_features
        self.scale = scale
        # Only its device and dtype matter, so it has no place in a checkpoint.
        self.register_buffer("zero", torch.zeros(num_features), persistent=False)

    @abstractmethod
    def forward(self, infer: Infer) -> TorchDistribution:
        """The distribution of z.

        Args:
            infer: From embeddings ``(N, D)`` to their posteriors, for priors that are made of
                posteriors (:class:`VampPrior`).
        """
