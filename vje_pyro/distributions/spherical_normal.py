"""A Gaussian subdensity for directions: the limit of SphericalStudentT without heavy tails."""

import math

from torch import Tensor

from vje_pyro.distributions._chord import ChordDirection
from vje_pyro.ranges import PositiveFloat


class SphericalNormal(ChordDirection):
    r"""Normal law of a direction around ``loc``, on the unit sphere :math:`S^{D-1}`.

    .. math::

        \log p(u) = - \tfrac d2\log(2\pi) - \sum_k\log\tau_k
            + \tfrac12\log\sum_k m_k^2\tau_k^2 - \tfrac12 Q(u), \quad d = D - 1,

    the normal density of the tangent vector of the chord's length, and the limit of
    :class:`SphericalStudentT` for infinite degrees of freedom. Q, arguments and errors are those of
    :class:`.ChordDirection`.

    Source: this project, to study the failure without heavy tails that Oji & Fieguth, "Joint
    Embedding Variational Bayes" (arXiv 2602.05639), report.

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
