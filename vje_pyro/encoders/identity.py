"""The encoder of what is encoded already."""

from torch import Tensor, nn

from vje_pyro.ranges import PositiveInt


class Identity(nn.Module):
    """Gives embeddings ``(B, D)`` back: for a model of the embeddings of another one.

    Args:
        num_features: Dimension D.
    """

    def __init__(self, num_features: PositiveInt) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, embeddings: Tensor) -> Tensor:
        """The embeddings themselves."""
        return embeddings
