"""SimCLR: contrast two views of an image with all other views of the batch."""

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vje_pyro.models._joint_embedding import (
    JointEmbedding,
    gathered,
    lightly,
    mean,
    require_positive,
)
from vje_pyro.ranges import Depth, PositiveFloat, Width


class SimCLR(JointEmbedding):
    """NT-Xent: of all other projections of two views of a batch, find that of the same image.

    The mean is over every pair of views; the negatives are those of all processes. The head is
    lightly's; its loss waits for a GPU to count the negatives. Other arguments and errors are those
    of :class:`.JointEmbedding`.

    Source: Chen et al., "A simple framework for contrastive learning" (arXiv 2002.05709), equation
    1.

    Args:
        batch_norm: Batch norm after each of the projector's layers.
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
        keys, first = gathered(queries)
        anchors = torch.arange(len(queries), device=queries.device)
        logits = queries @ keys.T / self.temperature
        logits[anchors, first + anchors] = -math.inf
        return cross_entropy(logits, first + anchors.roll(len(anchors) // 2))
