"""VICReg: invariance of the projections, a floor on their variance, and no covariance."""

from itertools import combinations

import torch
from torch import Tensor, nn

from vje_pyro.models._joint_embedding import JointEmbedding, lightly, mean
from vje_pyro.ranges import Depth, NonNegativeFloat, Width


class VICReg(JointEmbedding):
    r"""Squared distance of two views' projections, hinge on their spread, off-diagonal covariance.

    .. math:: \lambda\, inv(a, b) + \mu\, \tfrac12 (var(a) + var(b)) + \nu\, (cov(a) + cov(b))

    It is symmetric in its views; of more than two, the mean is over every pair. Loss and head are
    lightly's, with the ½ of the authors' program; over several processes variance and covariance
    are those of the whole batch. Parts: ``invariance`` and ``variance`` with their weights (those
    of this process), and ``covariance``, the rest of the loss.

    Source: Bardes, Ponce & LeCun, "VICReg" (arXiv 2105.04906), equations 1 to 6.

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with attribute ``num_features``.
        hidden_dim: Width of the projector's hidden layers.
        output_dim: Dimension P of the projections.
        num_layers: Linear layers of the projector.
        invariance_weight: λ.
        variance_weight: μ.
        covariance_weight: ν.

    Raises:
        VJEError: If lightly is not installed.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Width = 2048,
        num_layers: Depth = 3,
        invariance_weight: NonNegativeFloat = 25.0,
        variance_weight: NonNegativeFloat = 25.0,
        covariance_weight: NonNegativeFloat = 1.0,
    ) -> None:
        heads = lightly("models.modules.heads")
        super().__init__(
            encoder,
            heads.VICRegProjectionHead(encoder.num_features, hidden_dim, output_dim, num_layers),
        )
        self.criterion = lightly("loss").VICRegLoss(
            invariance_weight,
            variance_weight,
            covariance_weight,
            gather_distributed=torch.distributed.is_available(),
        )

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        total = mean([self.criterion(a, b) for a, b in combinations(outputs, 2)])
        return total, self._parts(total.detach(), outputs.detach())

    def _parts(self, total: Tensor, outputs: Tensor) -> dict[str, Tensor]:
        terms = lightly("loss.vicreg_loss")
        distances = [terms.invariance_loss(a, b) for a, b in combinations(outputs, 2)]
        invariance = self.criterion.lambda_param * mean(distances)
        variance = self.criterion.mu_param * mean([terms.variance_loss(view) for view in outputs])
        return {
            "invariance": invariance,
            "variance": variance,
            "covariance": total - invariance - variance,
        }
