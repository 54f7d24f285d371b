"""BYOL: predict the projection that a slowly moving teacher gives another view."""

from torch import Tensor, nn

from vje_pyro.inference import ordered_pairs
from vje_pyro.models._joint_embedding import TaughtJointEmbedding, lightly
from vje_pyro.ranges import Probability, Width


class BYOL(TaughtJointEmbedding):
    r"""Squared distance of the directions of a view's prediction and the teacher's projection.

    :math:`2 \cdot (2 - 2 \cos)`, the mean over every ordered pair of views; of two views it is
    the paper's sum of both directions. Cosine and heads are lightly's.

    Arguments and errors are those of :class:`.TaughtJointEmbedding`.

    Source: Grill et al., "Bootstrap your own latent" (arXiv 2006.07733), equations 2 and 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 4096,
        output_dim: Width = 256,
        predictor_dim: Width = 4096,
        momentum: Probability = 0.99,
    ) -> None:
        heads = lightly("models.modules.heads")
        super().__init__(
            encoder,
            heads.BYOLProjectionHead(encoder.num_features, hidden_dim, output_dim),
            heads.BYOLPredictionHead(output_dim, predictor_dim, output_dim),
            momentum,
        )
        self.criterion = lightly("loss").NegativeCosineSimilarity()

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        cosine = -self.criterion(ordered_pairs(outputs)[0], ordered_pairs(targets)[1])
        return 2 * (2 - 2 * cosine), {}
