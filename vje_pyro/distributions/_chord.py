"""Laws of a direction through its tangent vector of the chord's length: what they share."""

import math
from abc import abstractmethod

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, softplus

from vje_pyro.distributions._ball_probability import log_ball_probability
from vje_pyro.distributions._common import Directional, Shape, tensor_like

# A sampler that rejects more often than this is of no use to anyone: it says so and stops.
_MAX_REJECTION_ROUNDS = 1000

# How many scales the quadrature of the mass holds at once.
_CHUNK = 2**18


class ChordDirection(Directional):
    r"""Base of the laws whose tangent vector :math:`w(u)` is an elliptical vector at ``loc``.

    With :math:`m` the location and :math:`c = u\cdot m`, :math:`w(u)` lies in the tangent plane at
    :math:`m`, points to :math:`u` and has the length of the chord, :math:`\|u - m\|`. Its scale
    matrix is the one that :math:`\mathrm{diag}(\tau^2)` induces there, of scale :math:`\tau`, and
    its quadratic form

    .. math:: Q(u) = \frac{2}{1+c}\sum_k \Big(\frac{u_k - c\,m_k}{\tau_k}\Big)^2.

    The map does not preserve area for D > 3, so the density of w(u) is a *subdensity* of u: its
    mass, ``log_mass``, is below one, and a bound that scores with it is a lower bound on the log
    evidence of the normalised model. ``normalized=True`` scores with that model, the reference

    .. math:: p_{ref}(u) = p(u)\,\big((1+c)/2\big)^{-(D-3)/2} / P(\|w\| \le 2),

    the law of the direction whose tangent vector is drawn, given :math:`\|w\| \le 2`. Sampling
    always draws from the reference, and ``mean`` and ``mean_resultant_length`` are its own.
    Densities are in nats, with respect to surface area. Everything is O(D).

    A subclass says how the vector is distributed: its log density as a function of the quadratic
    form, and its degrees of freedom.

    Args:
        loc: Mean direction, unit vectors of shape ``(..., D)``, D at least 3.
        scale: Positive scale of every feature, shape ``(..., D)`` or broadcastable to it; in units
            of the unit sphere (0.1 is about 6 degrees a feature).
        normalized: Score with the normalised reference instead of the subdensity.

    Raises:
        ValueError: If D is below 3, the shapes do not broadcast, or (with validation on) a
            parameter or value leaves its constraint.
    """

    arg_constraints = {  # noqa: RUF012 - the name and form that torch.distributions reads
        "loc": constraints.sphere,
        "scale": constraints.independent(constraints.positive, 1),
    }
    options = ("normalized",)
    # The sampler rejects tangent vectors outside the ball of radius 2. A pathwise gradient through
    # it would miss the moving boundary, so none is offered.
    has_rsample = False

    loc: Tensor
    scale: Tensor
    df: Tensor | None = None  # None for a normal vector
    normalized: bool

    @abstractmethod
    def _log_kernel(self, quadratic: Tensor) -> Tensor:
        """Log density of the tangent vector, for unit scales, from its quadratic form Q."""

    @property
    def is_subdensity(self) -> bool:
        """Whether the mass is below one, which it is unless ``normalized``."""
        return not self.normalized

    @property
    def mode(self) -> Tensor:
        r"""The location ``m``, shape ``batch_shape + (D,)``.

        For D > 3 the reference has an integrable singularity at the antipode besides.
        """
        return self.loc

    @property
    def log_acceptance(self) -> Tensor:
        r""":math:`\log P(\|w\| \le 2)`, shape ``batch_shape``: how often the sampler accepts."""
        return self._log_ball(tensor_like(2.0, self.scale)).to(self.loc.dtype)

    @property
    def log_mass(self) -> Tensor:
        r"""Log of the mass on the sphere, shape ``batch_shape``: zero if ``normalized``, else

        .. math:: \log E\big[((1+c)/2)^{(D-3)/2};\ \|w\| \le 2\big].

        A quadrature to about eight digits; it costs ten thousand times as much as ``log_prob``.
        """
        if self.normalized:
            return torch.zeros_like(self.loc[..., 0])
        return self._log_moment((self.event_shape[0] - 3) / 2).to(self.loc.dtype)

    @property
    def mean_resultant_length(self) -> Tensor:
        r""":math:`E[u\cdot m]` of the reference, shape ``batch_shape``: 1 where concentrated.

        It is negative for scales so large that most draws come near the antipode.
        """
        inside = self._log_ball(tensor_like(2.0, self.scale))
        return (2 * torch.exp(self._log_moment(1.0) - inside) - 1).to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """Expectation of u under the reference, shape ``batch_shape + (D,)``; not a unit vector."""
        return self.mean_resultant_length[..., None] * self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to surface area, in nats, shape ``sample + batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
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
        log_prob = self._log_kernel(quadratic) + log_det
        if self.normalized:
            log_area = 0.5 * (self.event_shape[0] - 3) * torch.log((1 + cosine + eps) / 2)
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
        df = None if self.df is None else self.df.expand(shape[:-1])
        tangent = _tangent_vector(loc, scale, df)
        for _ in range(_MAX_REJECTION_ROUNDS):
            outside = tangent.norm(dim=-1) > 2
            if not outside.any():
                return _lift(tangent, loc)
            again = None if df is None else df[outside]
            tangent[outside] = _tangent_vector(loc[outside], scale[outside], again)
        raise ValueError(
            f"{type(self).__name__}: rejection sampling gave up, as only one draw in "
            f"{math.exp(-self.log_acceptance.min().item()):.3g} stays on the sphere for the "
            f"largest scale, {self.scale.max().item():.3g}. Use a smaller scale."
        )

    def _log_ball(self, radius: Tensor) -> Tensor:
        """Log P(‖w‖ ≤ radius), float64."""
        return log_ball_probability(self.scale, self.df, radius, normal=self.loc)[0]

    def _log_moment(self, power: float) -> Tensor:
        """Log E[((1 + c)/2)^power; ‖w‖ ≤ 2], float64.

        As (1 + c)/2 = 1 − ‖w‖²/4, integration by parts makes it an integral of the distribution
        function F of ‖w‖ over t = log x/(1 − x), where x = ‖w‖²/4:

            ∫ power · F(2√x) · x (1 − x)^power dt.

        Beside its one peak, F may climb steeply somewhere to the left of it. The nodes are dense
        at the leftmost of the two and spread as sinh from there.
        """
        if power == 0:
            return self._log_ball(tensor_like(2.0, self.scale))
        with torch.no_grad():
            centre, width, left, right = self._layout(power)
        v = _grid(torch.asinh((left - centre) / width), torch.asinh((right - centre) / width), 240)
        t = centre + width * torch.sinh(v)
        log_terms = self._log_ball_at(t) + _log_area(t, power) + torch.cosh(v).log()
        return log_terms.logsumexp(0) + (power * width * (v[1] - v[0])).log()

    def _log_ball_at(self, t: Tensor) -> Tensor:
        """Log F(2√x) at nodes t = log x/(1 − x), shape (nodes, ...), a part of them at a time."""
        part = max(1, _CHUNK // self.scale.numel())
        return torch.cat([self._log_ball(2 * x.sigmoid().sqrt()) for x in t.split(part)])

    def _layout(self, power: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre and width of the nodes, and the ends of the integral: found on two grids."""
        zero = torch.zeros_like(self.loc[..., 0], dtype=torch.float64)
        half_dim = (self.event_shape[0] - 1) / 2
        # The slope of log F in t lies between 0 and d/2, which brackets the peak.
        low, high = zero - math.log(power), zero + math.log((1 + half_dim) / power)
        coarse = _grid(low - 30, high + 1, 64)
        cell, log_ball = coarse[1] - coarse[0], self._log_ball_at(coarse)
        peak = coarse.gather(0, (log_ball + _log_area(coarse, power)).argmax(0, keepdim=True))[0]
        climb = low - 30 + cell * (log_ball < math.log(0.5)).sum(0)

        fine = torch.stack([_grid(x - cell, x + cell, 32) for x in (peak, climb)])
        step = fine[0, 1] - fine[0, 0]
        log_ball = self._log_ball_at(fine.flatten(0, 1)).reshape(fine.shape)
        log_terms = log_ball[0] + _log_area(fine[0], power)
        top = log_terms.argmax(0, keepdim=True).clamp(1, len(log_terms) - 2)
        before, at, after = (log_terms.gather(0, top + k)[0] for k in (-1, 0, 1))
        peak = fine[0].gather(0, top)[0]
        peak_width = step / (2 * at - before - after).clamp(min=1e-4).sqrt()
        climb_width = step / log_ball[1].diff(dim=0).amax(0).clamp(min=1e-3)
        centre = torch.minimum(peak, climb)
        width = torch.minimum(peak_width, climb_width).clamp(0.01, 2)
        # Left of the centre falls at least e^t; right of the peak (1 − x)^power.
        right = torch.log(torch.expm1(softplus(peak) + 30 / power)) + 10 * peak_width
        return centre, width, centre - 30, right


def _log_area(t: Tensor, power: float) -> Tensor:
    """Log of x (1 − x)^power at t = log x/(1 − x)."""
    return logsigmoid(t) + power * logsigmoid(-t)


def _grid(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Evenly spaced numbers from start to end, shape (count, ...)."""
    fraction = torch.linspace(0, 1, count, dtype=start.dtype, device=start.device)
    return torch.lerp(start, end, fraction.reshape(-1, *[1] * start.dim()))


def _tangent_vector(loc: Tensor, scale: Tensor, df: Tensor | None) -> Tensor:
    """Draws in the tangent plane at ``loc``, before truncation to ‖w‖ ≤ 2."""
    variance = scale.square()
    normal = torch.randn_like(scale) * scale
    along = (loc * normal).sum(-1, keepdim=True) / (loc.square() * variance).sum(-1, keepdim=True)
    conditional = normal - variance * loc * along
    if df is None:
        return conditional
    chi_square = 2 * torch._standard_gamma(df / 2)
    # A Gamma draw of a small df can underflow to zero; the vector is then outside the ball anyway.
    chi_square = chi_square.clamp(min=torch.finfo(df.dtype).tiny)
    return conditional * (df / chi_square).sqrt()[..., None]


def _lift(tangent: Tensor, loc: Tensor) -> Tensor:
    """The direction whose tangent vector at ``loc`` has the chord as its length."""
    half_chord_square = tangent.square().sum(-1, keepdim=True) / 4
    cosine = 1 - 2 * half_chord_square
    direction = cosine * loc + tangent * (1 - half_chord_square).clamp(min=0).sqrt()
    return normalize(direction, dim=-1)
