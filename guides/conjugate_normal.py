"""The amortised diagonal Gaussian guide whose variance is conjugate to the likelihood's."""

from pyro.distributions import Independent, Normal
from torch import Tensor

from vje_pyro.guides.amortised import AmortisedGuide, perceptron
from vje_pyro.method import Inferred
from vje_pyro.priors import NormalPrior, Prior


class ConjugateNormal(AmortisedGuide):
    r"""One output v(s): variance of the likelihood, and by conjugacy that of the posterior.

    .. math::

        q(z \mid s) = N\Big(\mu(s),\ diag\,\frac{v(s)}{1 + v(s)}\Big), \qquad
        \text{scale of the direction} = \sqrt{v(s)}

    An observation of z with variance v turns the prior N(0, 1) of a feature into a posterior of
    variance v/(1 + v); k of them, by the product of experts, into one of :math:`v/(k + v)`. The
    prior has to be the standard normal. Arguments and errors are those of :class:`AmortisedGuide`;
    the bounds are those of √v.

    Source: this project; the shared variance is that of Oji & Fieguth (arXiv 2602.05639).

    Example:
        >>> import torch
        >>> posterior, scale = ConjugateNormal(4).eval().infer(torch.zeros(1, 4))
        >>> bool(torch.allclose(posterior.variance, scale**2 / (1 + scale**2)))
        True
    """

    def __init__(
        self,
        num_features: int,
        hidden_features: int = 512,
        num_layers: int = 1,
        min_scale: float = 1e-3,
        max_scale: float = 1e2,
    ) -> None:
        super().__init__(min_scale, max_scale)
        self.network = perceptron(num_features, hidden_features, num_layers, 2 * num_features)

    def infer(self, source: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings ``(N, D)``."""
        loc, raw = self.network(source).chunk(2, dim=-1)
        scale = self.bounded_scale(raw)
        return Inferred(Independent(Normal(loc, scale * (1 + scale.square()).rsqrt()), 1), scale)

    def check_prior(self, prior: Prior) -> None:
        """Raise ValueError for any prior but the standard normal."""
        if not (isinstance(prior, NormalPrior) and prior.scale == 1):
            scale = f" with scale {prior.scale}" if isinstance(prior, NormalPrior) else ""
            raise ValueError(
                f"guide=conjugate_normal is conjugate to the standard normal prior, got "
                f"{type(prior).__name__}{scale}: take prior=standard_normal, or "
                f"guide=diagonal_normal."
            )
