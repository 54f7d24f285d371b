"""SimCLR: contrast two views of an image with all other views of the batch."""

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vje_pyro.models._joint_embedding import JointEmbedding, lightly, mean, require_positive
from vje_pyro.ranges import Depth, PositiveFloat, Width


class SimCLR(JointEmbedding):
    """NT-Xent: of all other projections of two views of a batch, find that of the same image.

    It is symmetric in its views; of more than two, the mean is over every pair. Over
    several processes the negatives are those of the whole batch. The head is lightly's; its loss
    picks the negatives by a mask of booleans, for whose count a GPU has to be waited for.

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
        self.temperature = temperature

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        pairs = combinations(normalize(outputs, dim=-1), 2)
        return mean([self._contrast(torch.cat(pair)) for pair in pairs]), {}

    def _contrast(self, queries: Tensor) -> Tensor:
        """The loss of directions ``(2B, P)`` of both views of each image, one after the other."""
        dist, first, keys = lightly("utils.dist"), 0, queries
        if dist.world_size() > 1:
            first = dist.rank() * len(queries)
            keys = torch.cat(dist.gather(queries))
        anchors = torch.arange(len(queries), device=queries.device)
        logits = queries @ keys.T / self.temperature
        logits[anchors, first + anchors] = -math.inf
        return cross_entropy(logits, first + anchors.roll(len(anchors) // 2))
