"""Direction of a normal vector with diagonal covariance, in any dimension."""

from torch import Tensor

from vje_pyro.distributions._projected import ProjectedDirection
from vje_pyro.ranges import PositiveFloat


class ProjectedNormal(ProjectedDirection):
    r"""Law of :math:`u = y/\|y\|`, where :math:`y \sim N(m, \mathrm{diag}(\tau^2))`.

    With :math:`m` the location and :math:`\tau` the scale, the density (in nats, with respect to
    surface area) is the integral of the vector's along the ray,

    .. math:: p(u) = \int_0^\infty r^{D-1} \prod_k N(r u_k;\ m_k, \tau_k^2)\ dr,

    a one-dimensional quadrature in log space, to about ten digits in any dimension; everything else
    is O(D). The law is exactly normalised: its mass is one. Its peak is at ``loc`` where the scales
    are equal. As the scale grows it tends to the direction of noise alone. Draws carry pathwise
    gradients. For D = 3 and equal scales it is ``pyro.distributions.ProjectedNormal`` with
    concentration :math:`m/\tau`.

    Source: Hernandez-Stumpfhauser, Breidt & van der Woerd (2017), "The general projected normal
    distribution of arbitrary dimension"; the quadrature is this project's.

    Args:
        loc: Location of the vector, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it, in units
            of the location's length.

    Raises:
        ValueError: If D is below 3, the shapes do not broadcast, or (with validation on) a
            parameter or value leaves its constraint.

    Example:
        >>> import torch
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> ProjectedNormal(loc, scale=1e6).log_prob(loc)  # uniform: -log(4 pi)
        tensor(-2.5310)
    """

    def __init__(
        self, loc: Tensor, scale: Tensor | PositiveFloat, *, validate_args: bool | None = None
    ) -> None:
        self._set_parameters(loc, scale=scale, validate_args=validate_args)
