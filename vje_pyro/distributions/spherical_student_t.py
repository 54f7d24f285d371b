"""A heavy-tailed Student-t subdensity for directions: the directional factor of VJE."""

import math

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from vje_pyro.distributions._ball_probability import log_ball_probability
from vje_pyro.distributions._common import Shape, positive_finite

# A sampler that rejects more often than this is of no use to anyone: it says so and stops.
_MAX_REJECTION_ROUNDS = 1000


class SphericalStudentT(TorchDistribution):
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
    ``normalized=True`` scores with that model, the reference

    .. math:: p_{ref}(u) = p(u)\,\big((1+c)/2\big)^{-(D-3)/2} / P(\|w\| \le 2),

    the law of the direction whose tangent vector :math:`w` is Student-t, given
    :math:`\|w\| \le 2`. Sampling always draws from the reference. Everything is O(D).

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
        "loc": constraints.sphere,
        "scale": constraints.independent(constraints.positive, 1),
        "df": positive_finite,
    }
    support = constraints.sphere
    # The sampler rejects tangent vectors outside the ball of radius 2. A pathwise gradient through
    # it would miss the moving boundary, so none is offered.
    has_rsample = False

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor | float,
        df: Tensor | float,
        *,
        normalized: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        scale, df = (torch.as_tensor(x, dtype=loc.dtype, device=loc.device) for x in (scale, df))
        if loc.dim() < 1 or loc.shape[-1] < 3:
            raise ValueError(
                f"SphericalStudentT needs directions in at least 3 dimensions, got loc of shape "
                f"{tuple(loc.shape)}: in 2 dimensions its mass exceeds one. Use a larger embedding."
            )
        batch_shape, event_shape = self.infer_shapes(loc.shape, scale.shape, df.shape)
        self.loc = loc.expand(batch_shape + event_shape)
        self.scale = scale.expand(batch_shape + event_shape)
        self.df = df.expand(batch_shape)
        self.normalized = normalized
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @staticmethod
    def infer_shapes(  # type: ignore[override]
        loc: Shape, scale: Shape = (), df: Shape = ()
    ) -> tuple[torch.Size, torch.Size]:
        """``(batch_shape, event_shape)`` from the parameters' shapes."""
        shape = torch.broadcast_shapes(loc, scale, (*df, 1))
        return shape[:-1], shape[-1:]

    def expand(
        self, batch_shape: Shape, _instance: "SphericalStudentT | None" = None
    ) -> "SphericalStudentT":
        """The same law with parameters expanded to ``batch_shape``, as a SphericalStudentT."""
        new = self._get_checked_instance(SphericalStudentT, _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.event_shape)
        new.scale = self.scale.expand(batch_shape + self.event_shape)
        new.df = self.df.expand(batch_shape)
        new.normalized = self.normalized
        super(SphericalStudentT, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mode(self) -> Tensor:
        """The location ``m``, shape ``batch_shape + (D,)``."""
        return self.loc

    @property
    def log_acceptance(self) -> Tensor:
        r""":math:`\log P(\|w\| \le 2)`, shape ``batch_shape``: how often the sampler accepts."""
        radius = torch.full_like(self.df, 2.0)
        inside, _ = log_ball_probability(self.scale, self.df, radius, normal=self.loc)
        return inside.to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to surface area, in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        df, dim = self.df, self.event_shape[0] - 1
        eps = torch.finfo(value.dtype).eps
        cosine = (value * self.loc).sum(-1, keepdim=True).clamp(-1.0, 1.0)
        precision = self.scale.square().reciprocal()
        tangent = (value - cosine * self.loc).square()
        cosine = cosine[..., 0]
        # At the antipode tangent and 1 + cosine vanish together. The terms in eps are an isotropic
        # share of the same form: exact for equal scales, rounding elsewhere, finite at both poles.
        quadratic = (tangent * precision).sum(-1) + eps * (1 - cosine) * precision.mean(-1)
        quadratic = 2 * quadratic / (1 + cosine + eps)
        log_det = 0.5 * (self.loc * self.scale).square().sum(-1).log() - self.scale.log().sum(-1)
        log_kernel = -0.5 * (df + dim) * torch.log1p(quadratic / df)
        log_prob = _log_normalizer(df, dim) + log_det + log_kernel
        if self.normalized:
            log_area = 0.5 * (dim - 2) * torch.log((1 + cosine + eps) / 2)
            log_prob = log_prob - log_area - self.log_acceptance
        return log_prob

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Exact draws from the normalised reference, shape ``sample + batch_shape + (D,)``.

        Raises:
            ValueError: If the scale is so large that hardly any draw stays on the sphere.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, scale = self.loc.expand(shape), self.scale.expand(shape)
        df = self.df.expand(shape[:-1])
        tangent = _tangent_student_t(loc, scale, df)
        for _ in range(_MAX_REJECTION_ROUNDS):
            outside = tangent.norm(dim=-1) > 2
            if not outside.any():
                return _lift(tangent, loc)
            tangent[outside] = _tangent_student_t(loc[outside], scale[outside], df[outside])
        raise ValueError(
            f"SphericalStudentT: rejection sampling gave up, as only one draw in "
            f"{math.exp(-self.log_acceptance.min().item()):.3g} stays on the sphere for the "
            f"largest scale, {self.scale.max().item():.3g}. Use a smaller scale."
        )


def _log_normalizer(df: Tensor, dim: int) -> Tensor:
    """Log of Γ((ν+d)/2) / (Γ(ν/2) (νπ)^{d/2}), in float64: the Gammas cancel for large ν."""
    nu = df.double()
    log_gammas = torch.lgamma((nu + dim) / 2) - torch.lgamma(nu / 2)
    return (log_gammas - 0.5 * dim * torch.log(nu * math.pi)).to(df.dtype)


def _tangent_student_t(loc: Tensor, scale: Tensor, df: Tensor) -> Tensor:
    """Student-t vectors in the tangent plane at ``loc``, before truncation to ‖w‖ ≤ 2."""
    variance = scale.square()
    normal = torch.randn_like(scale) * scale
    along = (loc * normal).sum(-1, keepdim=True) / (loc.square() * variance).sum(-1, keepdim=True)
    conditional = normal - variance * loc * along
    chi_square = 2 * torch._standard_gamma(df / 2)
    # A Gamma draw of a small df can underflow to zero; the vector is then outside the ball anyway.
    chi_square = chi_square.clamp(min=torch.finfo(df.dtype).tiny)
    return conditional * (df / chi_square).sqrt()[..., None]


def _lift(tangent: Tensor, loc: Tensor) -> Tensor:
    """The direction whose tangent vector at ``loc`` has the chord as its length."""
    half_chord_square = tangent.square().sum(-1, keepdim=True) / 4
    cosine = 1 - 2 * half_chord_square
    direction = cosine * loc + tangent * (1 - half_chord_square).clamp(min=0).sqrt()
    return torch.nn.functional.normalize(direction, dim=-1)
