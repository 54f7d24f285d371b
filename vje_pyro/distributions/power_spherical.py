"""The power spherical distribution of a direction."""

import torch
from torch import Tensor

from vje_pyro.distributions._common import Shape, tensor_like
from vje_pyro.distributions._gamma_ratio import log_gamma_ratio
from vje_pyro.distributions._isotropic import Isotropic


class PowerSpherical(Isotropic):
    r"""Power spherical law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    .. math::

        \log p(u) &= \kappa\log(1 + u\cdot m) - (\alpha + \beta)\log 2 - \beta\log\pi
            - \log\Gamma(\alpha) + \log\Gamma(\alpha + \beta) \\
        \alpha &= \beta + \kappa,\quad \beta = \tfrac{D - 1}2,\quad \kappa = 2/\overline{\tau^2}

    Close to :class:`VonMisesFisher`, with an exact sampler that carries pathwise gradients. The
    density vanishes at the antipode of ``loc``, where ``1 + u·m`` is held at the rounding of the
    dtype: the log density stays finite, and its gradient is zero. Arguments and errors are those of
    :class:`.Isotropic`.

    Source: De Cao & Aziz, "The Power Spherical distribution" (arXiv 2006.04437), equations 4 to 9.
    The tangent is drawn by projection, where the paper uses a Householder reflection.

    Example:
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> d = PowerSpherical(loc, scale=0.5)
        >>> d.concentration, d.mean
        (tensor(8.), tensor([0.0000, 0.0000, 0.8000]))
        >>> d.rsample((4,)).shape
        torch.Size([4, 3])
    """

    tangent_precision = 2.0
    has_rsample = True

    def _statistic(self, distance: Tensor) -> Tensor:
        """Log of (1 + u·m)/2."""
        return torch.log1p(-distance.clamp(max=1 - torch.finfo(distance.dtype).eps))

    def _log_partition(self, kappa: Tensor) -> tuple[Tensor, Tensor]:
        beta = (self.event_shape[0] - 1) / 2
        log_ratio, slope = log_gamma_ratio(beta + kappa, beta)
        at_zero, _ = log_gamma_ratio(tensor_like(beta, kappa), beta)
        return at_zero - log_ratio, -slope

    def _mean_cosine(self, kappa: Tensor) -> Tensor:
        return kappa / (kappa + self.event_shape[0] - 1)

    def _variance_across(self, kappa: Tensor) -> Tensor:
        dim = self.event_shape[0]
        return (2 * kappa + dim - 1) / ((kappa + dim - 1) * (kappa + dim))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Exact draws with pathwise gradients, shape ``sample + batch_shape + (D,)``."""
        return self._draw(sample_shape)

    def _sample_distance(self, kappa: Tensor) -> Tensor:
        beta = torch.full_like(kappa, (self.event_shape[0] - 1) / 2)
        return torch.distributions.Beta(beta, beta + kappa, validate_args=False).rsample()
