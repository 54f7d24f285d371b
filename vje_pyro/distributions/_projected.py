"""Laws of the direction of a random vector: what they share."""

import math

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.distributions._common import Directional, Shape
from vje_pyro.distributions._gamma_ratio import log_student_t_normalizer
from vje_pyro.distributions._radial_integral import log_radial_integral


class ProjectedDirection(Directional):
    """Law of the direction of a normal or Student-t vector at ``loc`` with diagonal scale matrix.

    The density (in nats, with respect to surface area) is the integral of the vector's along the
    ray, a one-dimensional quadrature in log space to about ten digits in any dimension; everything
    else is O(D). The law is exactly normalised. Its peak is at ``loc`` where the scales are equal.
    Draws carry pathwise gradients.

    Args:
        loc: Location of the vector, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it, in units
            of the location's length.

    Raises:
        ValueError: If D is below 3, the shapes do not broadcast, or (with validation on) a
            parameter or value leaves its constraint.
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": constraints.sphere,
        "scale": constraints.independent(constraints.positive, 1),
    }
    has_rsample = True

    loc: Tensor
    scale: Tensor
    df: Tensor | None = None  # None for a normal vector

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to surface area, in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        dim = self.event_shape[0]
        target, loc = value / self.scale, self.loc / self.scale
        a = target.square().sum(-1)
        beta = (target * loc).sum(-1) / a
        # As a sum of squares: Σ m²/τ² − a β² would cancel to nothing at the mode.
        excess = (loc - beta[..., None] * target).square().sum(-1)
        integral = log_radial_integral(dim, a, beta, excess, self.df)
        log_scale = self.scale.log().sum(-1, dtype=torch.float64)
        if self.df is None:
            return (integral - 0.5 * dim * math.log(2 * math.pi) - log_scale).to(value.dtype)
        log_normalizer = log_student_t_normalizer(self.df, dim)
        return (integral + log_normalizer - log_scale).to(value.dtype)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Exact draws with pathwise gradients, shape ``sample + batch_shape + (D,)``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, noise = self.loc.expand(shape), self.scale * torch.randn_like(self.loc.expand(shape))
        if self.df is not None:
            # The vector is loc + noise/√g; times √g, which keeps its direction, it cannot overflow.
            df = self.df.expand(shape[:-1])
            gamma = torch._standard_gamma(df / 2).clamp(min=torch.finfo(df.dtype).tiny)
            loc = loc * (2 * gamma / df).sqrt()[..., None]
        return normalize(loc + noise, dim=-1)
