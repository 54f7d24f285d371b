"""Barlow Twins: the cross-correlation of two views' projections is to be the identity."""

from itertools import combinations

import torch
from torch import Tensor, nn

from vje_pyro.models._joint_embedding import JointEmbedding, lightly, mean, require_positive
from vje_pyro.ranges import NonNegativeFloat, PositiveFloat, Width


class BarlowTwins(JointEmbedding):
    r"""Distance of the cross-correlation matrix C of two views' projections to the identity.

    .. math:: s \left( \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2 \right)

    The mean is over every pair of views; C is that of all processes. Loss and head are lightly's.
    Other arguments and errors are those of :class:`.JointEmbedding`.

    Source: Zbontar et al., "Barlow Twins" (arXiv 2103.03230), equation 1; s as in the authors'
    program.

    Args:
        redundancy_weight: λ.
        scale: s.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Width = 2048,
        redundancy_weight: NonNegativeFloat = 5e-3,
        scale: PositiveFloat = 0.1,
    ) -> None:
        heads = lightly("models.modules.heads")
        super().__init__(
            encoder, heads.BarlowTwinsProjectionHead(encoder.num_features, hidden_dim, output_dim)
        )
        require_positive(scale=scale)
        self.scale = scale
        self.criterion = lightly("loss").BarlowTwinsLoss(
            redundancy_weight, gather_distributed=torch.distributed.is_available()
        )

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        return self.scale * mean([self.criterion(a, b) for a, b in combinations(outputs, 2)]), {}
