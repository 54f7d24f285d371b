"""A heavy-tailed Student-t subdensity for directions: the directional factor of VJE."""

import torch
from torch import Tensor

from vje_pyro.distributions._chord import ChordDirection
from vje_pyro.distributions._common import positive_finite
from vje_pyro.distributions._gamma_ratio import log_student_t_normalizer
from vje_pyro.ranges import PositiveFloat


class SphericalStudentT(ChordDirection):
    r"""Student-t law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    With :math:`m` the location, :math:`\tau` the scale, :math:`d = D - 1` and :math:`c = u\cdot m`,
    map :math:`u` to the tangent plane at :math:`m` by the vector :math:`w(u)` whose length is the
    chord :math:`\|u - m\|`. The density (in nats, with respect to surface area) is the
    :math:`d`-dimensional Student-t density of :math:`w(u)`, with the scale matrix that
    :math:`\mathrm{diag}(\tau^2)` induces on the tangent plane:

    .. math::

        Q(u) &= \frac{2}{1+c}\sum_k \Big(\frac{u_k - c\,m_k}{\tau_k}\Big)^2 \\
        \log p(u) &= \log\Gamma\tfrac{\nu+d}{2} - \log\Gamma\tfrac{\nu}{2}
            - \tfrac d2\log(\nu\pi) - \sum_k\log\tau_k + \tfrac12\log\sum_k m_k^2\tau_k^2
            - \tfrac{\nu+d}{2}\log\big(1 + Q(u)/\nu\big)

    The map does not preserve area for D > 3, so this is a *subdensity*: its mass is below one, and
    a bound that scores with it is a valid lower bound on the log evidence of the normalised model.
    The mass is ``log_mass``; the property ``is_subdensity`` says whether it is below one.
    ``normalized=True`` scores with that model, the reference

    .. math:: p_{ref}(u) = p(u)\,\big((1+c)/2\big)^{-(D-3)/2} / P(\|w\| \le 2),

    the law of the direction whose tangent vector :math:`w` is Student-t, given
    :math:`\|w\| \le 2`. Sampling always draws from the reference, and ``mean`` and
    ``mean_resultant_length`` are its own. Everything is O(D). The limit of many degrees of freedom
    is :class:`SphericalNormal`.

    Source: the idea of a heavy-tailed spherical subdensity is from Oji & Fieguth, "Joint Embedding
    Variational Bayes" (arXiv 2602.05639); this formula is this project's own.

    Args:
        loc: Mean direction, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it; in units
            of the unit sphere (0.1 is about 6 degrees a feature).
        df: Degrees of freedom, positive, shape ``(...)``; 1 is the Cauchy case.
        normalized: Score with the normalised reference instead of the subdensity.

    Raises:
        ValueError: If D is below 3, the shapes do not broadcast, or (with validation on) a
            parameter or value leaves its constraint.

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
