"""A Gaussian subdensity for directions: the limit of SphericalStudentT without heavy tails."""

import math

from torch import Tensor

from vje_pyro.distributions._chord import ChordDirection
from vje_pyro.ranges import PositiveFloat


class SphericalNormal(ChordDirection):
    r"""Normal law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    The limit of :class:`SphericalStudentT` for infinite degrees of freedom. With :math:`m` the
    location, :math:`\tau` the scale, :math:`d = D - 1` and :math:`c = u\cdot m`, the density (in
    nats, with respect to surface area) is the normal density of the tangent vector :math:`w(u)`,
    whose length is the chord:

    .. math::

        Q(u) &= \frac{2}{1+c}\sum_k \Big(\frac{u_k - c\,m_k}{\tau_k}\Big)^2 \\
        \log p(u) &= - \tfrac d2\log(2\pi) - \sum_k\log\tau_k
            + \tfrac12\log\sum_k m_k^2\tau_k^2 - \tfrac12 Q(u)

    As there, this is a *subdensity*, ``normalized=True`` scores with the normalised reference
    :math:`p(u)\,((1+c)/2)^{-(D-3)/2} / P(\|w\| \le 2)`, and sampling always draws from it.

    Source: this project, to study the failure without heavy tails that Oji & Fieguth, "Joint
    Embedding Variational Bayes" (arXiv 2602.05639), report.

    Args:
        loc: Mean direction, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it; in units
            of the unit sphere (0.1 is about 6 degrees a feature).
        normalized: Score with the normalised reference instead of the subdensity.

    Raises:
        ValueError: If D is below 3, the shapes do not broadcast, or (with validation on) a
            parameter or value leaves its constraint.

    Example:
        >>> import torch
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> d = SphericalNormal(loc, scale=0.1)
        >>> d.log_prob(loc)  # -log(2 pi 0.1^2)
        tensor(2.7673)
    """

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor | PositiveFloat,
        *,
        normalized: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.normalized = normalized
        self._set_parameters(loc, scale=scale, validate_args=validate_args)

    def _log_kernel(self, quadratic: Tensor) -> Tensor:
        return -0.5 * quadratic - 0.5 * (self.event_shape[0] - 1) * math.log(2 * math.pi)
