"""The von Mises–Fisher distribution of a direction."""

import torch
from torch import Tensor
from torch.distributions import register_kl

from vje_pyro.distributions._bessel import log_hyp0f1
from vje_pyro.distributions._common import Shape
from vje_pyro.distributions._isotropic import Isotropic, check_same_sphere


class VonMisesFisher(Isotropic):
    r"""von Mises–Fisher law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    .. math::

        \log p(u) = \kappa\,u\cdot m + v\log\kappa - \tfrac D2\log 2\pi - \log I_v(\kappa),
            \quad v = \tfrac D2 - 1,\quad \kappa = 1/\overline{\tau^2}

    The normaliser is differentiable, and right to about 1e-11 in any dimension for κ from 1e-8 to
    1e8. The divergence from another VonMisesFisher is closed and registered, too. Arguments and
    errors are those of :class:`.Isotropic`.

    Source: Fisher, "Dispersion on a sphere" (1953); Mardia & Jupp, "Directional Statistics",
    section 9.3. The sampler is that of Wood, "Simulation of the von Mises Fisher distribution"
    (1994).

    Example:
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> d = VonMisesFisher(loc, scale=0.5)
        >>> d.concentration, d.mean
        (tensor(4.), tensor([0.0000, 0.0000, 0.7507]))
        >>> VonMisesFisher(loc, concentration=4.0).log_prob(loc)
        tensor(-0.4512)
    """

    tangent_precision = 1.0
    # The sampler rejects: a pathwise gradient would miss the moving boundary.
    has_rsample = False

    def _statistic(self, distance: Tensor) -> Tensor:
        return -2 * distance

    def _log_partition(self, kappa: Tensor) -> tuple[Tensor, Tensor]:
        log_f, ratio = log_hyp0f1(self.event_shape[0] / 2 - 1, kappa)
        return log_f - kappa, ratio - 1

    def _mean_cosine(self, kappa: Tensor) -> Tensor:
        """The Bessel ratio A_D(κ)."""
        return log_hyp0f1(self.event_shape[0] / 2 - 1, kappa)[1]

    def _variance_across(self, kappa: Tensor) -> Tensor:
        return self._mean_cosine(kappa) / kappa

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Exact draws, shape ``sample + batch_shape + (D,)``."""
        return self._draw(sample_shape)

    def _sample_distance(self, kappa: Tensor) -> Tensor:
        """Rejection from the law of a Beta variable sent through a Möbius map.

        Source: Wood (1994), algorithm VM*, for the distance (1 − u·m)/2. At least two draws in
        three are accepted, whatever D and κ.
        """
        freedom = self.event_shape[0] - 1
        b = freedom / (2 * kappa + (4 * kappa.square() + freedom**2).sqrt())
        peak = b / (1 + b)
        half = torch.full_like(kappa, freedom / 2)
        proposal = torch.distributions.Beta(half, half, validate_args=False)

        def propose() -> tuple[Tensor, Tensor]:
            z = proposal.sample()
            x = b * z / (1 - (1 - b) * z)
            # (1 − x₀ w)/(1 − x₀²) in Wood's cosines x₀ = 1 − 2 peak and w = 1 − 2 x.
            envelope = (peak + x - 2 * peak * x) / (2 * peak * (1 - peak))
            log_ratio = 2 * kappa * (peak - x) + freedom * envelope.log()
            return x, torch.rand_like(x).log() <= log_ratio

        distance, accepted = propose()
        while not accepted.all():
            again, accepted_again = propose()
            distance = torch.where(accepted, distance, again)
            accepted = accepted | accepted_again
        return distance


@register_kl(VonMisesFisher, VonMisesFisher)
def _kl_vmf_vmf(p: VonMisesFisher, q: VonMisesFisher) -> Tensor:
    """In nats, shape of the two batches broadcast."""
    check_same_sphere(p, q)
    kappa_p, kappa_q = p._kappa(), q._kappa()
    log_partition_p, mean_p = p._log_partition(kappa_p)
    log_partition_q, _ = q._log_partition(kappa_q)
    distance = (p.loc - q.loc).square().sum(-1).double() / 4
    # E_p[u·m_q − 1], of the mean A m_p: (A − 1) + A (m_p·m_q − 1).
    mean_q = mean_p - 2 * (1 + mean_p) * distance
    kl = kappa_p * mean_p - log_partition_p - kappa_q * mean_q + log_partition_q
    return kl.to(p.loc.dtype)
