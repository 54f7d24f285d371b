"""Direction of a multivariate Student-t vector with diagonal scale matrix."""

from torch import Tensor

from vje_pyro.distributions._common import positive_finite
from vje_pyro.distributions._projected import ProjectedDirection
from vje_pyro.ranges import PositiveFloat


class ProjectedStudentT(ProjectedDirection):
    r"""Law of :math:`u = y/\|y\|`, where y is Student-t with scale :math:`\mathrm{diag}(\tau^2)`.

    With :math:`m` the location, :math:`\tau` the scale and :math:`\nu` the degrees of freedom,

    .. math::

        p(u) = \frac{\Gamma\frac{\nu+D}{2}}{\Gamma\frac\nu2 (\nu\pi)^{D/2} \prod_k \tau_k}
            \int_0^\infty r^{D-1} \Big(1 + \frac1\nu \sum_k
            \frac{(r u_k - m_k)^2}{\tau_k^2}\Big)^{-(\nu+D)/2} dr.

    The limit of many degrees of freedom is :class:`ProjectedNormal`. Other arguments and errors are
    those of :class:`.ProjectedDirection`.

    Source: this project.

    Args:
        df: Degrees of freedom, positive, shape ``(...)``; 1 is the Cauchy case.

    Example:
        >>> import torch
        >>> loc = torch.tensor([0.0, 0.0, 1.0])
        >>> d = ProjectedStudentT(loc, scale=0.1, df=1.0)
        >>> d.log_prob(loc), d.log_prob(-loc)
        (tensor(2.7770), tensor(-5.6927))
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        **ProjectedDirection.arg_constraints,
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
        validate_args: bool | None = None,
    ) -> None:
        self._set_parameters(loc, scale=scale, df=df, validate_args=validate_args)
