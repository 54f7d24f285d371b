"""Laws of a direction that depend only on its angle to the location."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.utils import lazy_property
from torch.nn.functional import normalize

from vje_pyro.distributions._common import Directional, Shape, positive_finite
from vje_pyro.distributions.spherical_uniform import SphericalUniform, log_sphere_area
from vje_pyro.ranges import PositiveFloat


class _derived(lazy_property):
    """A parameter that follows from the one given: not checked, and computed at every use.

    What torch keeps would hold on to a graph that the first backward pass frees.
    """

    def __get__(self, instance: Any, obj_type: Any = None) -> Any:
        return super().__get__(None, obj_type) if instance is None else self.wrapped(instance)


class Isotropic(Directional):
    r"""A law that depends on the angle to ``loc`` alone: an exponential family around uniformity.

    .. math:: \log p(u) = \kappa\,T(u\cdot m) - \psi(\kappa) - \log\mathrm{area}(S^{D-1})

    in nats, with respect to surface area. The concentration κ is a constant over the mean of the
    squared scales, so that a concentrated law has that mean as its variance along every tangent.
    The divergence from :class:`SphericalUniform` is closed and registered. Everything is O(D), and
    what depends on κ alone is computed in float64.

    A subclass gives the statistic :math:`T`, zero at the location, the log-partition function ψ and
    its derivative, the mean cosine and a sampler of :math:`1 - u\cdot m`.

    Args:
        loc: Mean direction, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it, in units
            of the unit sphere. Only the mean of its squares matters.
        concentration: κ itself, positive, shape ``(...)``, instead of the scale.

    Raises:
        ValueError: If D is below 3, not exactly one of scale and concentration is given, the shapes
            do not broadcast, or (with validation on) a parameter or value leaves its constraint.
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": constraints.sphere,
        "scale": constraints.independent(positive_finite, 1),
        "concentration": positive_finite,
    }
    vector_parameters = ("loc", "scale")
    scalar_parameters = ("concentration",)
    # A concentrated law is a normal one on the tangent plane, with this variance times κ.
    tangent_precision: ClassVar[float]

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor | PositiveFloat | None = None,
        *,
        concentration: Tensor | PositiveFloat | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (scale is None) == (concentration is None):
            raise ValueError(
                f"{type(self).__name__} takes either scale or concentration, got "
                f"{'neither' if scale is None else 'both'}."
            )
        given = {"scale": scale} if concentration is None else {"concentration": concentration}
        self._set_parameters(loc, validate_args=validate_args, **given)

    def _expand_from(
        self, tensors: dict[str, Tensor], batch_shape: torch.Size, event_shape: torch.Size
    ) -> None:
        """Sets those of the parameters that are given; the other follows from them."""
        for kind in ("vector_parameters", "scalar_parameters"):
            setattr(self, kind, tuple(name for name in getattr(self, kind) if name in tensors))
        super()._expand_from(tensors, batch_shape, event_shape)

    @_derived
    def concentration(self) -> Tensor:
        """κ from the mean square of the scale, shape ``batch_shape``."""
        return self.tangent_precision / self.scale.square().mean(-1)

    @_derived
    def scale(self) -> Tensor:
        """The scale, the same for every feature, from κ, shape ``batch_shape + (D,)``."""
        scale = (self.tangent_precision / self.concentration).sqrt()
        return scale[..., None].expand(self.batch_shape + self.event_shape)

    @abstractmethod
    def _statistic(self, distance: Tensor) -> Tensor:
        """T of the distance (1 − u·m)/2, which lies in [0, 1]."""

    @abstractmethod
    def _log_partition(self, kappa: Tensor) -> tuple[Tensor, Tensor]:
        """ψ(κ) and ψ'(κ), the mean of the statistic."""

    @abstractmethod
    def _mean_cosine(self, kappa: Tensor) -> Tensor:
        """Mean of u·m."""

    @abstractmethod
    def _variance_across(self, kappa: Tensor) -> Tensor:
        """Variance of the direction along a tangent at the location, (1 − E[(u·m)²])/(D − 1)."""

    @abstractmethod
    def _sample_distance(self, kappa: Tensor) -> Tensor:
        """A draw of (1 − u·m)/2 for every κ."""

    def _kappa(self) -> Tensor:
        return self.concentration.double()

    @property
    def mode(self) -> Tensor:
        """The location ``m``, shape ``batch_shape + (D,)``."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        """The mean of the direction, a vector shorter than one, shape ``batch_shape + (D,)``."""
        return self._mean_cosine(self._kappa()).to(self.loc.dtype)[..., None] * self.loc

    @property
    def variance(self) -> Tensor:
        """Variance of every component of the direction, shape ``batch_shape + (D,)``."""
        kappa, dim = self._kappa(), self.event_shape[0]
        across = self._variance_across(kappa)
        along = 1 - (dim - 1) * across - self._mean_cosine(kappa).square()
        square = self.loc.double().square()
        variance = across[..., None] * (1 - square) + along[..., None] * square
        return variance.to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to surface area, in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        # From the chord: a cosine near one has lost the digits that a large κ asks for.
        distance = (value - self.loc).square().sum(-1) / 4
        kappa = self._kappa()
        log_partition, _ = self._log_partition(kappa)
        log_prob = kappa * self._statistic(distance).double() - log_partition
        return (log_prob - log_sphere_area(self.event_shape[0])).to(value.dtype)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape ``batch_shape``."""
        entropy = log_sphere_area(self.event_shape[0]) - self._information()
        return entropy.to(self.loc.dtype)

    def _information(self) -> Tensor:
        """Divergence from the uniform law, κ ψ'(κ) − ψ(κ), in float64."""
        kappa = self._kappa()
        log_partition, mean_statistic = self._log_partition(kappa)
        return kappa * mean_statistic - log_partition

    def _draw(self, sample_shape: Shape) -> Tensor:
        """A draw of the distance to the location, and a uniform direction across it."""
        shape = self._extended_shape(torch.Size(sample_shape))
        distance = self._sample_distance(self._kappa().expand(shape[:-1]))[..., None]
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        tangent = normalize(noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        cosine, sine = 1 - 2 * distance, 2 * (distance * (1 - distance)).sqrt()
        dtype = self.loc.dtype
        return normalize(cosine.to(dtype) * self.loc + sine.to(dtype) * tangent, dim=-1)


@register_kl(Isotropic, SphericalUniform)
def _kl_isotropic_uniform(p: Isotropic, q: SphericalUniform) -> Tensor:
    """In nats, shape of the two batches broadcast."""
    check_same_sphere(p, q)
    kl = p._information().to(p.loc.dtype)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


def check_same_sphere(p: Isotropic, q: Isotropic | SphericalUniform) -> None:
    """Raise ValueError for two laws on spheres of different dimension."""
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"the divergence between {type(p).__name__} and {type(q).__name__} needs one sphere, "
            f"got directions in {p.event_shape[0]} and in {q.event_shape[0]} dimensions."
        )
