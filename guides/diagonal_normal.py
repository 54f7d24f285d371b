"""The amortised diagonal Gaussian guide."""

from pyro.distributions import Independent, Normal
from torch import Tensor

from vje_pyro.guides.amortised import AmortisedGuide, perceptron
from vje_pyro.method import Inferred
from vje_pyro.ranges import Depth, PositiveFloat, Width


class DiagonalNormal(AmortisedGuide):
    r"""Inference network of the posterior :math:`q(z \mid s) = N(\mu(s), diag\,\sigma^2(s))`.

    Other arguments and errors are those of :class:`AmortisedGuide`.

    Args:
        shared_scale: The directional factor has the posterior's scale, as in the paper; False gives
            it a scale of its own, from the same network.

    Source: amortised diagonal Gaussian posterior whose variances are shared with the directional
    likelihood, Oji & Fieguth (arXiv 2602.05639); the network and the bounds are this project's.
    """

    def __init__(
        self,
        num_features: int,
        hidden_features: Width = 512,
        num_layers: Depth = 1,
        min_scale: PositiveFloat = 1e-3,
        max_scale: PositiveFloat = 1e2,
        shared_scale: bool = True,
    ) -> None:
        super().__init__(min_scale, max_scale)
        self.shared_scale = shared_scale
        num_outputs = (2 if shared_scale else 3) * num_features
        self.network = perceptron(num_features, hidden_features, num_layers, num_outputs)

    def infer(self, source: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings ``(N, D)``."""
        loc, *raw = self.network(source).chunk(2 if self.shared_scale else 3, dim=-1)
        scale = self.bounded_scale(raw[0])
        posterior = Independent(Normal(loc, scale), 1)
        return Inferred(posterior, scale if self.shared_scale else self.bounded_scale(raw[1]))
