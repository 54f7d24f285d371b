"""A Student-t law of a radius: the radial factor of VJE."""

import torch
from pyro.distributions import constraints
from torch import Tensor

from vje_pyro.distributions._ball_probability import log_ball_probability
from vje_pyro.distributions._common import Parametric, Shape, positive_finite
from vje_pyro.distributions._gamma_ratio import log_student_t_normalizer
from vje_pyro.ranges import PositiveFloat


class RadialStudentT(Parametric):
    r"""Student-t law of a radius around ``loc``, on the positive half-line.

    .. math::

        \log p(r) = \log\Gamma\tfrac{\nu+1}{2} - \log\Gamma\tfrac{\nu}{2}
            - \tfrac12\log(\nu\pi) - \log\tau
            - \tfrac{\nu+1}{2}\log\Big(1 + \frac{(r - m)^2}{\nu\tau^2}\Big),\quad r > 0.

    The mass of the Student-t below zero is missing, so this is a *subdensity*, as
    :class:`SphericalStudentT` is; ``normalized=True`` divides by the mass above zero. Sampling
    draws from the normalised law. Source: this project (the paper asks for a radial factor).

    Args:
        loc: Location, positive, shape ``(...)``, in units of the embedding's norm.
        scale: Scale, positive, same units. The norm of a standard normal vector has a standard
            deviation of about 0.7 in every dimension, so values of order one are natural.
        df: Degrees of freedom, positive.
        normalized: Score with the law truncated to positive radii, rather than the subdensity.

    Raises:
        ValueError: With validation on, if a parameter or value leaves its constraint.

    Example:
        >>> RadialStudentT(torch.tensor(16.0), 1.0, df=1.0).log_prob(torch.tensor(16.0))
        tensor(-1.1447)
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": constraints.positive,
        "scale": constraints.positive,
        "df": positive_finite,
    }
    support = constraints.positive
    has_rsample = False
    scalar_parameters = ("loc", "scale", "df")
    options = ("normalized",)

    loc: Tensor
    scale: Tensor
    df: Tensor
    normalized: bool

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

    @property
    def is_subdensity(self) -> bool:
        """Whether the mass is below one, which it is unless ``normalized``."""
        return not self.normalized

    @property
    def mode(self) -> Tensor:
        """The location, shape ``batch_shape``."""
        return self.loc

    @property
    def log_mass(self) -> Tensor:
        """Log of the mass that the untruncated Student-t has above zero, shape ``batch_shape``."""
        unit = torch.ones_like(self.df)[..., None]
        _, outside = log_ball_probability(unit, self.df, self.loc / self.scale)
        return torch.log1p(-0.5 * outside.exp()).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        # Written out: torch's class makes a chi-square law too, whose constant waits for a GPU.
        df, residual = self.df, (value - self.loc) / self.scale
        log_prob = (
            log_student_t_normalizer(df, 1).to(self.loc.dtype)
            - self.scale.log()
            - (df + 1) / 2 * torch.log1p(residual.square() / df)
        )
        return log_prob - self.log_mass if self.normalized else log_prob

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws from the normalised law, shape ``sample + batch_shape``.

        At least half of the Student-t lies above its positive location, so the rejection ends soon.
        """
        student = torch.distributions.StudentT(self.df, self.loc, self.scale, validate_args=False)
        radius = student.sample(torch.Size(sample_shape))
        while (outside := radius <= 0).any():
            radius = torch.where(outside, student.sample(torch.Size(sample_shape)), radius)
        return radius
