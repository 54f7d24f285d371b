"""SimCLR: contrast two views of an image with all other views of the batch."""

from itertools import combinations

import torch
from torch import Tensor, nn

from vje_pyro.models._joint_embedding import JointEmbedding, lightly, mean, require_positive
from vje_pyro.ranges import Depth, PositiveFloat, Width


class SimCLR(JointEmbedding):
    """NT-Xent: of all other projections of two views of a batch, find that of the same image.

    It is symmetric in its views; of more than two, the mean is over every pair. Loss and head are
    lightly's; over several processes the negatives are those of the whole batch.

    Source: Chen et al., "A simple framework for contrastive learning" (arXiv 2002.05709),
    equation 1.

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with attribute ``num_features``.
        hidden_dim: Width of the projector's hidden layers.
        output_dim: Dimension P of the projections.
        num_layers: Linear layers of the projector.
        batch_norm: Batch norm after each of them.
        temperature: What the cosines are divided by.

    Raises:
        VJEError: If lightly is not installed.
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Width = 256,
        num_layers: Depth = 2,
        batch_norm: bool = True,
        temperature: PositiveFloat = 0.2,
    ) -> None:
        heads = lightly("models.modules.heads")
        require_positive(temperature=temperature)
        super().__init__(
            encoder,
            heads.SimCLRProjectionHead(
                encoder.num_features, hidden_dim, output_dim, num_layers, batch_norm
            ),
        )
        self.criterion = lightly("loss").NTXentLoss(
            temperature, gather_distributed=torch.distributed.is_available()
        )

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        return mean([self.criterion(a, b) for a, b in combinations(outputs, 2)]), {}
