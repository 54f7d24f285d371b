"""LeJEPA: the views' projections agree, and all of them together are normally distributed."""

import torch
from torch import Tensor, nn

from vje_pyro.models._joint_embedding import JointEmbedding, lightly
from vje_pyro.ranges import Depth, Probability, Width


class LeJEPA(JointEmbedding):
    r"""Squared distance of every view's projection to their mean, and SIGReg of the projections.

    .. math:: (1 - \lambda)\, \frac1{V N P} \sum_{v, n} \|z_{vn} - \bar z_n\|^2
              + \lambda\, \frac1V \sum_v SIGReg(z_v)

    SIGReg is the sliced Epps–Pulley statistic against N(0, I) along 1024 random directions, drawn
    anew in every step, of the batch of all processes. Loss and head are lightly's. Parts:
    ``invariance`` (of this process) and ``sigreg``, with their weights. Other arguments and errors
    are those of :class:`.JointEmbedding`.

    Source: Balestriero & LeCun, "LeJEPA" (arXiv 2511.08544).

    Args:
        sigreg_weight: λ, in [0, 1].
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Width = 64,
        num_layers: Depth = 3,
        sigreg_weight: Probability = 0.05,
    ) -> None:
        if not 0 <= sigreg_weight <= 1:
            raise ValueError(f"sigreg_weight must be in [0, 1], got {sigreg_weight}.")
        heads = lightly("models.modules.heads")
        super().__init__(
            encoder,
            heads.LeJEPAProjectionHead(encoder.num_features, hidden_dim, output_dim, num_layers),
        )
        # The two terms of lightly's LeJEPALoss, which itself insists on local views.
        self.sigreg = lightly("loss.lejepa_loss").SIGReg(
            gather_distributed=torch.distributed.is_available()
        )
        self.sigreg_weight = sigreg_weight

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        distance = lightly("loss.lejepa_loss").lejepa_invariance_loss
        invariance = (1 - self.sigreg_weight) * distance(all_proj=outputs, global_proj=outputs)
        sigreg = self.sigreg_weight * self.sigreg(outputs)
        parts = {"invariance": invariance.detach(), "sigreg": sigreg.detach()}
        return invariance + sigreg, parts
