"""Radii whose law is one that torch knows, with other parameters."""

from abc import abstractmethod

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Distribution

from vje_pyro.distributions._common import Parametric, Shape, positive_finite
from vje_pyro.ranges import PositiveFloat


class Radial(Parametric):
    r"""A law on the positive half-line with a location and a scale in units of the radius.

    A subclass names the law by :meth:`_law`, whose parameters, densities and draws are in float64:
    a small scale at a large radius cancels most digits.

    Args:
        loc: Location :math:`m`, positive, shape ``(...)``, in units of the embedding's norm.
        scale: Scale :math:`\tau`, positive, same units.

    Raises:
        ValueError: With validation on, if a parameter or value leaves its constraint.
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": positive_finite,
        "scale": positive_finite,
    }
    support = constraints.positive
    has_rsample = True
    scalar_parameters = ("loc", "scale")

    loc: Tensor
    scale: Tensor

    def __init__(
        self, loc: Tensor, scale: Tensor | PositiveFloat, *, validate_args: bool | None = None
    ) -> None:
        self._set_parameters(loc, scale=scale, validate_args=validate_args)

    @abstractmethod
    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        """The law with these parameters, which are the own ones in float64."""

    @property
    def law(self) -> Distribution:
        """The law with the parameters that torch gives it, in float64."""
        return self._law(self.loc.double(), self.scale.double())

    @property
    def mean(self) -> Tensor:
        """The mean, shape ``batch_shape``."""
        return self.law.mean.to(self.loc.dtype)

    @property
    def variance(self) -> Tensor:
        """The variance, shape ``batch_shape``."""
        return self.law.variance.to(self.loc.dtype)

    @property
    def mode(self) -> Tensor:
        """The radius of the highest density, shape ``batch_shape``."""
        return self.law.mode.to(self.loc.dtype)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape ``batch_shape``."""
        return self.law.entropy().to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        return self.law.log_prob(value.double()).to(value.dtype)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws with pathwise gradients, shape ``sample + batch_shape``."""
        radius = self.law.rsample(torch.Size(sample_shape)).to(self.loc.dtype)
        return radius.clamp(min=torch.finfo(radius.dtype).tiny)
