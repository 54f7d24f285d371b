"""A concentration per image, read from its embedding; and the posterior of directions it is of."""

import math

import torch
from torch import Tensor, nn

from vje_pyro.distributions import SphericalUniform
from vje_pyro.guides.amortised import perceptron
from vje_pyro.method import ProbabilisticMethod


class Concentration(nn.Sequential):
    r"""Network of :math:`\kappa(s) = P e^{h \tanh(a(s)/h)}`, with h = log ``max_ratio``.

    The perceptron's output a is about the log of κ/P: a fresh network starts near κ = P. The bounds
    keep κ finite on images whose views agree.

    Args:
        num_features: Dimension of the embeddings s that it reads.
        hidden_dim: Width of the hidden layer.
        dim: Dimension P of the directions.
        max_ratio: κ/P is kept softly between the inverse of this and this.

    Raises:
        ValueError: If a width is not positive or ``max_ratio`` not above 1.
    """

    def __init__(self, num_features: int, hidden_dim: int, dim: int, max_ratio: float) -> None:
        if not 1 < max_ratio < math.inf:
            raise ValueError(f"max_ratio must be finite and above 1, got {max_ratio}.")
        super().__init__(*perceptron(num_features, hidden_dim, 1, 1))
        self.dim = dim
        self.log_max_ratio = math.log(max_ratio)

    def forward(self, embeddings: Tensor) -> Tensor:
        """κ of embeddings ``(N, num_features)``, shape ``(N,)``."""
        raw = super().forward(embeddings).squeeze(-1)
        return self.dim * (self.log_max_ratio * torch.tanh(raw / self.log_max_ratio)).exp()

    def clamp_fraction(self, kappa: Tensor) -> Tensor:
        """Share of κ within 5 % (in log units) of a bound, a scalar tensor."""
        return ((kappa / self.dim).log().abs() > 0.95 * self.log_max_ratio).float().mean()


class DirectionalMethod(ProbabilisticMethod):
    """A method with a law of directions of every image, whose concentration is its certainty."""

    output_dim: int  # P

    def prior(self) -> SphericalUniform:
        """``p(z)``, uniform on the sphere: batch shape ``()``, event shape ``(P,)``."""
        return SphericalUniform(self.output_dim, validate_args=False)

    def uncertainty(self, images: Tensor) -> Tensor:
        """Uncertainty about the representation of normalised images, −log κ, ``(B,)``."""
        concentration: Tensor = self.posterior(images).concentration
        return -concentration.log()
