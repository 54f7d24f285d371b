"""A log-normal law of a radius."""

import torch
from torch import Tensor
from torch.distributions import Distribution, LogNormal

from vje_pyro.distributions._radial import Radial


class RadialLogNormal(Radial):
    r"""Log-normal law of a radius with mean ``loc`` and standard deviation ``scale``.

    .. math::

        \log r \sim \mathrm{Normal}\big(\log m - \tfrac12 s^2,\ s\big),\qquad
            s^2 = \log\big(1 + \tau^2/m^2\big)

    Arguments and errors are those of :class:`.Radial`. Source: elementary.

    Example:
        >>> d = RadialLogNormal(torch.tensor(16.0), 1.0)
        >>> d.mean, d.stddev, d.log_prob(torch.tensor(16.0))
        (tensor(16.), tensor(1.), tensor(-0.9185))
    """

    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        variance = torch.log1p((scale / loc).square())
        return LogNormal(loc.log() - variance / 2, variance.sqrt(), validate_args=False)
