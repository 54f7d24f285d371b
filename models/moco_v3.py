"""MoCo v3: contrast a view's prediction with the teacher's keys of the batch."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vje_pyro.models._joint_embedding import (
    TaughtJointEmbedding,
    lightly,
    mean,
    require_positive,
)
from vje_pyro.ranges import Depth, PositiveFloat, Probability, Width


class MoCoV3(TaughtJointEmbedding):
    r"""InfoNCE: of all the teacher's keys of the batch, find that of the same image.

    For the normalised predictions q of one view and keys k of another,

    .. math:: 2 \cdot 2 \tau \cdot -\log \frac{\exp(q_n \cdot k_n / \tau)}
              {\sum_m \exp(q_n \cdot k_m / \tau)}

    the mean over every ordered pair of views; for two views this is the paper's sum of both
    directions. Over several processes the keys are those of the whole batch.

    Heads are lightly's, put together as the authors do for convolutional encoders: no batch norm
    after the predictor (that after the projector has scale and shift here). lightly has no such
    loss (its NT-Xent counts other queries as negatives too), so it is Algorithm 1 of the paper.

    Source: Chen, Xie & He, "An empirical study of training self-supervised vision transformers"
    (arXiv 2104.02057).

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with attribute ``num_features``.
        hidden_dim: Width of the projector's hidden layers.
        output_dim: Dimension P of the projections.
        num_layers: Linear layers of the projector; 2 for residual networks, 3 for transformers.
        predictor_dim: Width of the predictor's hidden layer.
        temperature: τ.
        momentum: Of the teacher at the start; it grows to 1 along a cosine.

    Raises:
        VJEError: If lightly is not installed.
        ValueError: If the momentum is not in [0, 1] or the temperature is not positive.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 4096,
        output_dim: Width = 256,
        num_layers: Depth = 2,
        predictor_dim: Width = 4096,
        temperature: PositiveFloat = 0.2,
        momentum: Probability = 0.99,
    ) -> None:
        heads = lightly("models.modules.heads")
        require_positive(temperature=temperature)
        super().__init__(
            encoder,
            heads.MoCoProjectionHead(
                encoder.num_features, hidden_dim, output_dim, num_layers, batch_norm=True
            ),
            heads.BYOLPredictionHead(output_dim, predictor_dim, output_dim),
            momentum,
        )
        self.temperature = temperature

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        queries, keys = normalize(outputs, dim=-1), normalize(targets, dim=-1)
        pairs = permutations(range(len(queries)), 2)
        return 2 * mean([self._contrast(queries[i], keys[j]) for i, j in pairs]), {}

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        dist, first = lightly("utils.dist"), 0
        if dist.world_size() > 1:
            first = dist.rank() * len(keys)
            keys = torch.cat(dist.gather(keys))
        same = first + torch.arange(len(queries), device=keys.device)
        return 2 * self.temperature * cross_entropy(queries @ keys.T / self.temperature, same)
