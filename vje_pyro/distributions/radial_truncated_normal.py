"""A normal law of a radius, truncated to the positive half-line."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vje_pyro.distributions._common import Shape
from vje_pyro.distributions._radial import Radial


class RadialTruncatedNormal(Radial):
    r"""Normal law of a radius around its mode ``loc``, truncated to the positive half-line.

    .. math::

        \log p(r) = \log\mathrm{Normal}(r;\ m, \tau) - \log\Phi(m/\tau),\quad r > 0

    ``scale`` is that of the untruncated normal, of which at least half is kept. Arguments and
    errors are those of :class:`.Radial`. Source: elementary; the sampler inverts the distribution
    function, so that its pathwise gradients are exact.

    Example:
        >>> d = RadialTruncatedNormal(torch.tensor(1.0), 1.0)
        >>> d.mean, d.log_prob(torch.tensor(1.0))
        (tensor(1.2876), tensor(-0.7462))
    """

    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        return _PositiveNormal(loc, scale, validate_args=False)


class _PositiveNormal(Normal):
    """The normal given that it is positive, for a positive location."""

    @property
    def _log_kept(self) -> Tensor:
        return torch.special.log_ndtr(self.loc / self.scale)

    @property
    def _hazard(self) -> Tensor:
        """φ(a)/Φ(a) at a = loc/scale."""
        ratio = self.loc / self.scale
        return torch.exp(-0.5 * ratio.square() - 0.5 * math.log(2 * math.pi) - self._log_kept)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * self._hazard

    @property
    def variance(self) -> Tensor:
        ratio, hazard = self.loc / self.scale, self._hazard
        return self.scale.square() * (1 - hazard * (ratio + hazard))

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - self._log_kept

    def entropy(self) -> Tensor:
        return super().entropy() + self._log_kept - self.loc / self.scale * self._hazard / 2

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        # The upper tail of the normal above the draw. Zero is possible, and its inverse infinite.
        shape, loc = self._extended_shape(torch.Size(sample_shape)), self.loc
        uniform = torch.rand(shape, dtype=loc.dtype, device=loc.device)
        tail = uniform.clamp(min=torch.finfo(loc.dtype).tiny) * self._log_kept.exp()
        return loc - self.scale * torch.special.ndtri(tail)
