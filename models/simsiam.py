"""SimSiam: a predictor and a stopped gradient, no teacher and no negatives."""

from torch import Tensor, nn

from vje_pyro.inference import ordered_pairs
from vje_pyro.models._joint_embedding import JointEmbedding, lightly
from vje_pyro.ranges import Width


class SimSiam(JointEmbedding):
    """Minus the cosine between a view's prediction and another view's stopped projection.

    The mean is over every ordered pair of views; of two views it is the paper's loss. Loss and
    heads are lightly's. Arguments and errors are those of :class:`.JointEmbedding`.

    Source: Chen & He, "Exploring simple Siamese representation learning" (arXiv 2011.10566).
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Width = 2048,
        predictor_dim: Width = 512,
    ) -> None:
        heads = lightly("models.modules.heads")
        super().__init__(
            encoder,
            heads.SimSiamProjectionHead(encoder.num_features, hidden_dim, output_dim),
            heads.SimSiamPredictionHead(output_dim, predictor_dim, output_dim),
        )
        self.criterion = lightly("loss").NegativeCosineSimilarity()

    def targets(self, projections: Tensor, views: Tensor) -> Tensor:
        """The projections, with the gradient stopped."""
        return projections.detach()

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        return self.criterion(ordered_pairs(outputs)[0], ordered_pairs(targets)[1]), {}
