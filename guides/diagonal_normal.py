"""The amortised diagonal Gaussian guide."""

import math
from itertools import pairwise

import pyro
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor, nn


class DiagonalNormal(nn.Module):
    r"""Inference network of the posterior :math:`q(z \mid s) = N(\mu(s), diag\,\sigma^2(s))`.

    A perceptron with batch norm and ReLU reads the embedding and gives the posterior's location
    and log scale. The log scale is bounded softly, :math:`\log\sigma = c + h \tanh(a/h)` with c
    and h the middle and the half-width of the bounds, so its gradient never vanishes at once.

    Args:
        num_features: Embedding dimension D, which is also the dimension of z.
        hidden_features: Width of the hidden layers.
        num_layers: Number of hidden layers; 0 makes the network linear.
        min_scale: Lower bound of σ, positive.
        max_scale: Upper bound of σ.

    Raises:
        ValueError: If a size is not positive or the bounds are not ``0 < min < max``.

    Source: amortised diagonal Gaussian posterior of Oji & Fieguth (arXiv 2602.05639); the network
    and the bounds are this project's.
    """

    def __init__(
        self,
        num_features: int,
        hidden_features: int = 512,
        num_layers: int = 1,
        min_scale: float = 1e-3,
        max_scale: float = 1e2,
    ) -> None:
        super().__init__()
        if not 0 < min_scale < max_scale < math.inf:
            raise ValueError(
                f"min_scale and max_scale must satisfy 0 < min_scale < max_scale, got "
                f"{min_scale} and {max_scale}."
            )
        if num_features < 1 or hidden_features < 1 or num_layers < 0:
            raise ValueError(
                f"num_features and hidden_features must be positive and num_layers not negative, "
                f"got {num_features}, {hidden_features} and {num_layers}."
            )
        widths = [num_features] + [hidden_features] * num_layers
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out)]
            layers += [nn.ReLU(inplace=True)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 2 * num_features))
        self.log_scale_middle = (math.log(min_scale) + math.log(max_scale)) / 2
        self.log_scale_half_width = (math.log(max_scale) - math.log(min_scale)) / 2

    def posterior(self, source: Tensor) -> TorchDistribution:
        """``q(z | source)``: batch shape ``(N,)``, event shape ``(D,)``, from embeddings (N, D)."""
        loc, raw = self.network(source).chunk(2, dim=-1)
        # The raw output is the log scale itself between the bounds, so a fresh network starts
        # with scales near one, the prior's.
        shift = (raw - self.log_scale_middle) / self.log_scale_half_width
        log_scale = self.log_scale_middle + self.log_scale_half_width * torch.tanh(shift)
        return Independent(Normal(loc, log_scale.exp()), 1)

    def bound_fraction(self, posterior: TorchDistribution) -> Tensor:
        """Fraction of scales within 5 % (in log units) of a bound, a scalar tensor."""
        log_scale = posterior.stddev.log()
        shift = (log_scale - self.log_scale_middle) / self.log_scale_half_width
        return (shift.abs() > 0.95).float().mean()

    def forward(self, posterior: TorchDistribution, target: Tensor | None = None) -> Tensor:
        """The Pyro guide: samples site ``z`` of every datum; ``target`` is the model's alone."""
        with pyro.plate("data", posterior.batch_shape[-1], dim=-1):
            return pyro.sample("z", posterior)
