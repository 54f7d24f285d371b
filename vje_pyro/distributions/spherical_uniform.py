"""The uniform distribution of a direction."""

import math

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.distributions._common import Parametric, Shape, check_on_sphere


def log_sphere_area(dim: int) -> float:
    """Log surface area of the unit sphere in ``dim`` dimensions: log 2π^{D/2}/Γ(D/2)."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2)


class SphericalUniform(Parametric):
    r"""Uniform law of a direction on the unit sphere :math:`S^{D-1}`.

    .. math:: \log p(u) = \log\Gamma(D/2) - \log 2 - \tfrac D2\log\pi

    in nats, with respect to surface area: the limit of :class:`VonMisesFisher` and
    :class:`PowerSpherical` as their concentration falls to zero. Source: elementary.

    Args:
        dim: The dimension D of the directions, at least 3.
        batch_shape: Shape of independent directions.

    Raises:
        ValueError: If ``dim`` is below 3 or (with validation on) a value is off the sphere.

    Example:
        >>> d = SphericalUniform(3)
        >>> d.event_shape, round(d.log_prob(torch.tensor([0.0, 0.0, 1.0])).exp().item(), 4)
        (torch.Size([3]), 0.0796)
    """

    arg_constraints = {}  # noqa: RUF012 - the name and form that torch.distributions reads
    support = constraints.sphere
    has_rsample = True

    def __init__(
        self, dim: int, batch_shape: Shape = (), *, validate_args: bool | None = None
    ) -> None:
        if dim < 3:
            raise ValueError(
                f"SphericalUniform needs directions in at least 3 dimensions, got {dim}. Use a "
                f"larger embedding."
            )
        super().__init__(*self.infer_shapes(dim, batch_shape), validate_args=validate_args)

    @staticmethod
    def infer_shapes(  # type: ignore[override]
        dim: int, batch_shape: Shape = ()
    ) -> tuple[torch.Size, torch.Size]:
        """``(batch_shape, event_shape)`` from the arguments, which are shapes themselves."""
        return torch.Size(batch_shape), torch.Size([dim])

    @property
    def mean(self) -> Tensor:
        """The mean of the direction, zero, shape ``batch_shape + (D,)``."""
        return torch.zeros(self.batch_shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to surface area, in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            check_on_sphere(value, type(self).__name__)
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_sphere_area(self.event_shape[0]))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws in torch's default dtype, shape ``sample + batch_shape + (D,)``."""
        return normalize(torch.randn(self._extended_shape(torch.Size(sample_shape))), dim=-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, the log of the sphere's area, shape ``batch_shape``."""
        return torch.full(self.batch_shape, log_sphere_area(self.event_shape[0]))
