"""Radii whose law is one that torch knows, with other parameters."""

from abc import abstractmethod
from typing import Self

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import Distribution

from vje_pyro.distributions._common import Shape, positive_finite, tensor_like
from vje_pyro.ranges import PositiveFloat


class Radial(TorchDistribution):
    """A law on the positive half-line with a location and a scale in units of the radius.

    A subclass names the law by :meth:`_law`, whose parameters, densities and draws are in float64:
    a small scale at a large radius cancels most digits. There is one radius a datum, so this costs
    nothing beside the direction.
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": positive_finite,
        "scale": positive_finite,
    }
    support = constraints.positive
    has_rsample = True

    def __init__(
        self, loc: Tensor, scale: Tensor | PositiveFloat, *, validate_args: bool | None = None
    ) -> None:
        scale = tensor_like(scale, loc)
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @staticmethod
    def infer_shapes(  # type: ignore[override]
        loc: Shape, scale: Shape = ()
    ) -> tuple[torch.Size, torch.Size]:
        """``(batch_shape, event_shape)`` from the parameters' shapes."""
        return torch.broadcast_shapes(loc, scale), torch.Size()

    def expand(self, batch_shape: Shape, _instance: Self | None = None) -> Self:
        """The same law, of the same class, with parameters expanded to ``batch_shape``."""
        new = self._get_checked_instance(type(self), _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        TorchDistribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

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
