"""MoCo v3: contrast a view's prediction with the teacher's keys of the batch."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vje_pyro.models._joint_embedding import (
    TaughtJointEmbedding,
    gathered,
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

    the mean over every ordered pair of views; of two views it is the paper's sum of both
    directions. The keys are those of all processes. Heads are lightly's, without the batch norm
    after the predictor; its NT-Xent counts other queries as negatives too, so the loss is Algorithm
    1 of the paper. Arguments and errors are those of :class:`.TaughtJointEmbedding`; ``num_layers``
    is 2 for residual networks and 3 for transformers.

    Source: Chen, Xie & He, "An empirical study of training self-supervised vision transformers"
    (arXiv 2104.02057).
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
        keys, first = gathered(keys)
        same = first + torch.arange(len(queries), device=keys.device)
        return 2 * self.temperature * cross_entropy(queries @ keys.T / self.temperature, same)
