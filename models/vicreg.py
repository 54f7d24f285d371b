"""VICReg: invariance of the projections, a floor on their variance, and no covariance."""

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from vje_pyro.models._joint_embedding import JointEmbedding, gathered, lightly, mean
from vje_pyro.ranges import Depth, NonNegativeFloat, Width


class VICReg(JointEmbedding):
    r"""Squared distance of two views' projections, hinge on their spread, off-diagonal covariance.

    .. math:: \lambda\, inv(a, b) + \mu\, \tfrac12 (var(a) + var(b)) + \nu\, (cov(a) + cov(b))

    The mean is over every pair of views; variance and covariance are those of all processes. The
    head is lightly's, the ½ that of the authors' program. Parts: the three terms with their
    weights. Other arguments and errors are those of :class:`.JointEmbedding`.

    Source: Bardes, Ponce & LeCun, "VICReg" (arXiv 2105.04906), equations 1 to 6.

    Args:
        invariance_weight: λ.
        variance_weight: μ.
        covariance_weight: ν.
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
        self.weights = invariance_weight, variance_weight, covariance_weight

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        lambda_, mu, nu = self.weights
        distances = [mse_loss(a, b) for a, b in combinations(outputs, 2)]
        views = [gathered(view)[0] for view in outputs]
        spread = [lightly("loss.vicreg_loss").variance_loss(view) for view in views]
        parts = {
            "invariance": lambda_ * mean(distances),
            "variance": mu * mean(spread),
            "covariance": 2 * nu * mean([_covariance(view) for view in views]),
        }
        total = torch.stack(list(parts.values())).sum()
        return total, {name: part.detach() for name, part in parts.items()}


def _covariance(x: Tensor) -> Tensor:
    """Squares of the off-diagonal covariances of ``(N, P)`` over P; a scalar."""
    centred = x - x.mean(0)
    covariance = centred.T @ centred / (len(x) - 1)  # torch.cov waits for the GPU
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[-1]
