"""Direction of a normal vector with diagonal covariance, in any dimension."""

from torch import Tensor

from vje_pyro.distributions._projected import ProjectedDirection
from vje_pyro.ranges import PositiveFloat


class ProjectedNormal(ProjectedDirection):
    r"""Law of :math:`u = y/\|y\|`, where :math:`y \sim N(m, \mathrm{diag}(\tau^2))`.

    .. math:: p(u) = \int_0^\infty r^{D-1} \prod_k N(r u_k;\ m_k, \tau_k^2)\ dr

    with :math:`m` the location and :math:`\tau` the scale. As the scale grows it tends to the
    direction of noise alone. For D = 3 and equal scales it is
    ``pyro.distributions.ProjectedNormal`` with concentration :math:`m/\tau`. Arguments and errors
    are those of :class:`.ProjectedDirection`.

    Source: Hernandez-Stumpfhauser, Breidt & van der Woerd (2017), "The general projected normal
    distribution of arbitrary dimension"; the quadrature is this project's.

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
