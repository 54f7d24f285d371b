"""A heavy-tailed Student-t subdensity for directions: the directional factor of VJE."""

import torch
from torch import Tensor

from vje_pyro.distributions._chord import ChordDirection
from vje_pyro.distributions._common import positive_finite
from vje_pyro.distributions._gamma_ratio import log_student_t_normalizer
from vje_pyro.ranges import PositiveFloat


class SphericalStudentT(ChordDirection):
    r"""Student-t law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    .. math::

        \log p(u) &= \log\Gamma\tfrac{\nu+d}{2} - \log\Gamma\tfrac{\nu}{2}
            - \tfrac d2\log(\nu\pi) - \sum_k\log\tau_k + \tfrac12\log\sum_k m_k^2\tau_k^2 \\
            &\quad - \tfrac{\nu+d}{2}\log\big(1 + Q(u)/\nu\big), \quad d = D - 1,

    the Student-t density of the tangent vector of the chord's length: a *subdensity*, unless
    ``normalized``. Q, other arguments and errors: :class:`.ChordDirection`. The limit of
    many degrees of freedom is :class:`SphericalNormal`.

    Source: the idea of a heavy-tailed spherical subdensity is from Oji & Fieguth, "Joint Embedding
    Variational Bayes" (arXiv 2602.05639); this formula is this project's own.

    Args:
        df: Degrees of freedom, positive, shape ``(...)``; 1 is the Cauchy case.

    Example:
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> d = SphericalStudentT(loc, scale=0.1 * torch.ones(3), df=1.0)
        >>> d.event_shape, d.log_prob(loc).item() > d.log_prob(-loc).item()
        (torch.Size([3]), True)
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        **ChordDirection.arg_constraints,
        "df": positive_finite,
    }
    scalar_parameters = ("df",)

    df: Tensor

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor | PositiveFloat,
        df: Tensor | PositiveFloat,
        *,
        normalized: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.normalized = normalized
        self._set_parameters(loc, scale=scale, df=df, validate_args=validate_args)

    def _log_kernel(self, quadratic: Tensor) -> Tensor:
        df, dim = self.df, self.event_shape[0] - 1
        log_normalizer = log_student_t_normalizer(df, dim).to(quadratic.dtype)
        return log_normalizer - 0.5 * (df + dim) * torch.log1p(quadratic / df)
