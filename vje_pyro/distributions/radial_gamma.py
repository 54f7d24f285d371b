"""A Gamma law of a radius."""

from torch import Tensor
from torch.distributions import Distribution, Gamma

from vje_pyro.distributions._radial import Radial


class RadialGamma(Radial):
    r"""Gamma law of a radius with mean ``loc`` and standard deviation ``scale``.

    .. math:: r \sim \mathrm{Gamma}(\text{shape} = m^2/\tau^2,\ \text{rate} = m/\tau^2)

    Where the scale exceeds the location, the density rises without bound towards zero. Arguments
    and errors are those of :class:`.Radial`. Source: elementary.

    Example:
        >>> import torch
        >>> d = RadialGamma(torch.tensor(16.0), 1.0)
        >>> d.mean, d.stddev, d.log_prob(torch.tensor(16.0))
        (tensor(16.), tensor(1.), tensor(-0.9193))
    """

    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        rate = loc / scale.square()
        return Gamma(loc * rate, rate, validate_args=False)
