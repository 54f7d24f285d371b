"""What every amortised guide is, and the network that most of them read the embedding with."""

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vje_pyro.method import Inferred
from vje_pyro.priors import Prior


class BoundedScale(nn.Module):
    """Scales kept softly between two bounds.

    Args:
        min_scale: Lower bound of the scales, positive.
        max_scale: Upper bound of the scales.

    Raises:
        ValueError: If the bounds are not ``0 < min < max``.
    """

    def __init__(self, min_scale: float = 1e-3, max_scale: float = 1e2) -> None:
        super().__init__()
        if not 0 < min_scale < max_scale < math.inf:
            raise ValueError(
                f"min_scale and max_scale must satisfy 0 < min_scale < max_scale, got "
                f"{min_scale} and {max_scale}."
            )
        self.log_scale_middle = (math.log(min_scale) + math.log(max_scale)) / 2
        self.log_scale_half_width = (math.log(max_scale) - math.log(min_scale)) / 2

    def bounded_scale(self, raw: Tensor) -> Tensor:
        r"""Scales from raw outputs, :math:`\log\sigma = c + h \tanh((a - c)/h)`.

        Between the bounds the raw output is about the log scale itself.
        """
        shift = (raw - self.log_scale_middle) / self.log_scale_half_width
        return (self.log_scale_middle + self.log_scale_half_width * torch.tanh(shift)).exp()

    def bound_fraction(self, scale: Tensor) -> Tensor:
        """Fraction of scales within 5 % (in log units) of a bound, a scalar tensor."""
        shift = (scale.log() - self.log_scale_middle) / self.log_scale_half_width
        return (shift.abs() > 0.95).float().mean()


class AmortisedGuide(BoundedScale, ABC):
    """Base of the guides: subclasses say how they infer; the method samples z from it.

    Args:
        num_features: Embedding dimension D, which is also the dimension of z.
        hidden_features: Width of the hidden layers of the network that reads the embedding.
        num_layers: Number of its hidden layers; 0 makes it linear.
        min_scale: Lower bound of σ, positive.
        max_scale: Upper bound of σ.

    Raises:
        ValueError: If a size is not positive or the bounds are not ``0 < min < max``.
    """

    @abstractmethod
    def infer(self, source: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings ``(N, D)``."""

    def check_prior(self, prior: Prior) -> None:
        """Refuse, by a ValueError, a prior of z that the guide does not fit: most fit any."""


def check_inferred(guide: object, inferred: Any, embeddings: Tensor) -> Inferred:
    """What a guide returned; ValueError if it is no posterior and scale of each of N embeddings."""
    match inferred:
        case (Distribution() as posterior, Tensor() as scale):
            shapes = posterior.batch_shape + posterior.event_shape, scale.shape
            if shapes == (embeddings.shape, embeddings.shape):
                return Inferred(posterior, scale)
            got = f"shapes {tuple(map(tuple, shapes))}"
        case tuple():
            got = f"({', '.join(type(x).__name__ for x in inferred)})"
        case _:
            got = type(inferred).__name__
    raise ValueError(
        f"{type(guide).__name__}.infer must return Inferred(posterior, scale), both for embeddings "
        f"of shape {tuple(embeddings.shape)}, got {got}. The law of the direction has its scale "
        f"from the guide: share the posterior's standard deviation, or give a scale of its own."
    )


def perceptron(
    num_features: int, hidden_features: int, num_layers: int, num_outputs: int
) -> nn.Sequential:
    """A perceptron with batch norm and ReLU; with ``num_layers=0`` it is linear."""
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
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_outputs))
