"""An amortised Gaussian guide with correlated features."""

import torch
from pyro.distributions import LowRankMultivariateNormal
from torch import Tensor

import vje_pyro.distributions.gaussian_kl  # noqa: F401 – its KL to the prior
from vje_pyro.guides.amortised import AmortisedGuide, perceptron
from vje_pyro.method import Inferred
from vje_pyro.ranges import Depth, PositiveFloat, Width


class LowRankNormal(AmortisedGuide):
    r"""Posterior :math:`q(z \mid s) = N(\mu(s),\ W(s) W(s)^\top + diag\,\sigma^2(s))`.

    The directional factor shares the marginal standard deviations. Other arguments and errors are
    those of :class:`AmortisedGuide`.

    Args:
        rank: Columns of W, at least 1.

    Source: this project; the family as in Ong et al., "Gaussian variational approximation with a
    factor covariance structure" (arXiv 1701.03208).
    """

    def __init__(
        self,
        num_features: int,
        rank: Width = 4,
        hidden_features: Width = 512,
        num_layers: Depth = 1,
        min_scale: PositiveFloat = 1e-3,
        max_scale: PositiveFloat = 1e2,
    ) -> None:
        super().__init__(min_scale, max_scale)
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}.")
        self.rank = rank
        num_outputs = (2 + rank) * num_features
        self.network = perceptron(num_features, hidden_features, num_layers, num_outputs)

    def infer(self, source: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings ``(N, D)``."""
        loc, raw, *columns = self.network(source).chunk(2 + self.rank, dim=-1)
        # Divided so that at the start the factors add little to the diagonal at any rank.
        factor = torch.stack(columns, dim=-1) / self.rank
        posterior = LowRankMultivariateNormal(loc, factor, self.bounded_scale(raw).square())
        return Inferred(posterior, posterior.stddev)
