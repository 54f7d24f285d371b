"""VJE with the default parts, as all measurements of time and memory use it."""

from functools import partial

import torch
from torch import nn
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import VJE

from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.encoders import SmallResNet


def default_vje(encoder: nn.Module, aggregate: nn.Module | None = None) -> VJE:
    """VJE with the default guide and likelihoods around an encoder."""
    return VJE(
        encoder,
        DiagonalNormal,
        partial(SphericalStudentT, df=1.0),
        partial(RadialStudentT, scale=1.0, df=1.0),
        aggregate=aggregate,
    )


def small_vje(aggregate: nn.Module | None = None) -> VJE:
    """The same around the small residual network, with weights of seed 0."""
    torch.manual_seed(0)
    return default_vje(SmallResNet(), aggregate)
