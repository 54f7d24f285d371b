"""Probability that a centred Student-t or normal vector falls in a ball, to full precision.

With y ~ Normal(0, C) and g ~ chi²(df)/df, the Student-t vector w = y/√g has ‖w‖ ≤ r exactly when
the linear combination of chi-squares Q = ‖y‖² − r² g is not positive. Its cumulant function

    K(s) = −½ log det(I − 2 s C) − (df/2) log(1 + 2 s r²/df)

is elementary (for a normal vector, df → ∞, the second term is −s r²), and the probability is a
contour integral of exp(K(s))/s. The contour crosses the real line at the saddle point and follows
the path of steepest descent (a hyperbola with the same curvature there): the integrand does not
oscillate before it has decayed, and a midpoint rule gives about ten digits *relative* to the
probability, however small it is. A gradient is the same integral with ∂K in the integrand, from the
same pass.

Source: inversion as in Imhof (1961), "Computing the distribution of quadratic forms in normal
variables"; contour through the saddle point as in Rice (1980), "Distribution of quadratic forms in
normal random variables"; the O(D) determinant is this project's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vje_pyro.distributions._common import Shape

# The path, y = width · sinh(v), ends where the integrand in v has fallen to exp(−_DECAY).
_DECAY = 27.0
_V_MAX = 60.0  # even a single coordinate with df = 0.01 has decayed there

# The bound must be exact, as the saddle point may be 1e-10 of it away. The saddle point and the end
# of the path may be a percent off.
_BOUND_BISECTIONS = 48
_SADDLE_BISECTIONS = 16
_END_BISECTIONS = 12

# Data, nodes and coordinates that are held at once: what the cache takes, or a GPU.
_BLOCK, _GPU_BLOCK = 2**16, 2**24


def _num_nodes(dim: int) -> int:
    """Nodes of the quadrature: more where few coordinates make the integrand decay slowly."""
    return 64 if dim >= 16 else 160


class _Covariance(NamedTuple):
    """C, diagonal or conditioned on ``normal · y = 0``; every determinant of it is O(D).

    The matrix determinant lemma gives det(I + a C) as a product over coordinates times a sum. The
    coordinate of the largest variance is taken out of the product and into the sum: there alone
    the product is singular where det is not, as the condition makes that variance smaller.
    """

    variance: Tensor  # of the coordinates in the product; zero at the one taken out
    weight: Tensor  # of the coordinates in the sum; zero at the one taken out
    top_variance: Tensor
    top_weight: Tensor

    @classmethod
    def of(cls, variance: Tensor, normal: Tensor | None) -> "_Covariance":
        if normal is None:  # nothing to take out, and the sum is one
            nothing = torch.zeros_like(variance)
            return cls(variance, nothing, nothing[..., 0], nothing[..., 0] + 1)
        weight = normal.square() * variance
        weight = weight / weight.sum(-1, keepdim=True)
        top = variance.argmax(-1, keepdim=True)
        return cls(
            variance.scatter(-1, top, 0.0),
            weight.scatter(-1, top, 0.0),
            variance.gather(-1, top)[..., 0],
            weight.gather(-1, top)[..., 0],
        )

    def slope(self, a: Tensor) -> Tensor:
        """Derivative of log det(I + a C) in a real ``a`` of shape (n,)."""
        inverse = (a[..., None] * self.variance).add_(1).reciprocal_()
        ratio = self.variance * inverse
        s0 = (inverse * self.weight).sum(-1)
        s1 = -inverse.mul_(ratio).mul_(self.weight).sum(-1)
        v, top = self.top_variance, 1 + a * self.top_variance
        return ratio.sum(-1) + (v * s0 + top * s1) / (self.top_weight + top * s0)

    def slopes(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First three derivatives of it."""
        inverse = 1 / (1 + a[..., None] * self.variance)
        ratio = self.variance * inverse
        s0, s1, s2, s3 = (
            sign * (self.weight * inverse * ratio.pow(k)).sum(-1)
            for k, sign in enumerate((1, -1, 2, -6))
        )
        v, top = self.top_variance, 1 + a * self.top_variance
        f0 = self.top_weight + top * s0
        f1, f2, f3 = v * s0 + top * s1, 2 * v * s1 + top * s2, 3 * v * s2 + top * s3
        f1, f2, f3 = f1 / f0, f2 / f0, f3 / f0
        return (
            ratio.sum(-1) + f1,
            -ratio.pow(2).sum(-1) + f2 - f1.pow(2),
            2 * ratio.pow(3).sum(-1) + f3 - 3 * f1 * f2 + 2 * f1.pow(3),
        )

    def bound(self) -> Tensor:
        """Where det(I − 2 s C) first vanishes for s > 0: one over twice the largest eigenvalue."""
        second = self.variance.amax(-1)
        low, high = 0.5 / torch.maximum(self.top_variance, second), 0.5 / second

        def positive(x: Tensor) -> Tensor:
            s = low + x
            inverse = (-2 * s[..., None] * self.variance).add_(1).reciprocal_()
            rest = inverse.mul_(self.weight).sum(-1)
            return self.top_weight + (1 - 2 * s * self.top_variance) * rest > 0

        return low + _bisect(positive, high - low, _BOUND_BISECTIONS)


def _bisect(is_left: Callable[[Tensor], Tensor], bound: Tensor, steps: int) -> Tensor:
    """Largest x found in (0, bound) that is still left, bisected in log(x / (bound − x)).

    The root may be far below the bound, or so close to it that only the distance tells.
    """
    low, high = torch.full_like(bound, -90.0), torch.full_like(bound, 30.0)
    for _ in range(steps):
        middle = (low + high) / 2
        left = is_left(bound * torch.sigmoid(middle))
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return bound * torch.sigmoid(low)


class _Determinant:
    """Log det(I − 2 s C) of n data at m points s of the upper half-plane each, and its gradient.

    With z = −1/(2s) it is Σ log(z + v) − D log z, plus that of the condition. All in real
    arithmetic, which is many times faster than torch's complex one.
    """

    def __init__(self, covariance: _Covariance, s: Tensor) -> None:
        self.z = -0.5 / s
        self.weight = covariance.weight
        self.real = covariance.variance[:, None] + self.z.real[..., None]  # of z + v, (n, m, D)
        self.imag = self.z.imag[..., None]
        self.inverse = torch.addcmul(self.imag.square(), self.real, self.real).reciprocal_()
        self.ratio = self.real * self.inverse  # 1/(z + v) = ratio − i imag · inverse
        self.top = self.z + covariance.top_variance[:, None]
        weight = self.weight[..., None]
        self.mean = torch.complex(
            (self.ratio @ weight)[..., 0], -((self.inverse @ weight) * self.imag)[..., 0]
        )  # weighted, of 1/(z + v)
        self.rest = covariance.top_weight[:, None] + self.top * self.mean

    def log(self) -> Tensor:
        """Shape (n, m)."""
        dim = self.real.shape[-1]
        # The angle of a number in the upper half-plane; atan is three times as fast as atan2.
        angle = math.pi / 2 * dim - (self.real / self.imag).atan_().sum(-1)
        log_product = torch.complex(-0.5 * self.inverse.log().sum(-1), angle)
        return log_product - dim * self.z.log() + self.rest.log()

    def gradient(self, share: Tensor) -> _Covariance:
        """Im Σ share · ∂ log det over the points, for complex shares of shape (n, m)."""
        in_top = share / self.rest
        in_mean = in_top * self.top
        # Im Σ x/(z + v) for x of shape (n, 2, m), then Im Σ in_mean/(z + v)² likewise.
        x, imag = torch.stack([share, in_mean], 1), self.imag.mT
        simple = x.imag @ self.ratio - (x.real * imag) @ self.inverse
        x = in_mean[:, None]
        double = x.imag @ self.inverse - 2 * (x.imag * imag.square()) @ self.inverse.square()
        double -= 2 * (x.real * imag) @ (self.ratio * self.inverse)
        return _Covariance(
            simple[:, 0] - self.weight * double[:, 0],
            simple[:, 1],
            (in_top * self.mean).imag.sum(-1),
            in_top.imag.sum(-1),
        )


class _Form(NamedTuple):
    """The quadratic form Q = ‖y‖² − r² g of n data."""

    covariance: _Covariance
    square: Tensor  # r²
    df: Tensor | None

    def log_divisor(self, s: Tensor) -> Tensor:
        """Minus log E exp(−s r² g), for complex ``s`` of shape (n, m): s r² where g is one."""
        x = s * self.square[:, None]
        if self.df is None:
            return x
        half_df = self.df[:, None] / 2
        return half_df * torch.log1p(x / half_df)

    def cumulant(self, s: Tensor) -> tuple[Tensor, _Determinant]:
        """K at ``s`` of shape (n, m), and the determinant in it."""
        determinant = _Determinant(self.covariance, s)
        return -0.5 * determinant.log() - self.log_divisor(s), determinant

    def log_divisor_gradient(self, s: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        """Im Σ share · ∂ log divisor over the points, in r² and, unless it is None, in df."""
        if self.df is None:
            return ((share * s).imag.sum(-1),)
        u = s * (2 * self.square / self.df)[:, None]
        in_df = 0.5 * (torch.log1p(u) - u / (1 + u))
        return (share * s / (1 + u)).imag.sum(-1), (share * in_df).imag.sum(-1)

    def rows(self, rows: slice) -> "_Form":
        """That of some of the data."""
        covariance = _Covariance(*(x[rows] for x in self.covariance))
        return _Form(covariance, self.square[rows], None if self.df is None else self.df[rows])


def log_ball_probability(
    scale: Tensor, df: Tensor | None, radius: Tensor, normal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``(log P(‖w‖ ≤ radius), log P(‖w‖ > radius))`` of a centred Student-t or normal vector.

    Args:
        scale: Positive scales of the coordinates, shape (..., D).
        df: Degrees of freedom, shape (...); None for the normal vector.
        radius: Radius of the ball, shape (...).
        normal: Unit vector, shape (..., D): w is restricted to its orthogonal complement, with the
            scale matrix that diag(scale⁻²) induces there (the conditional distribution).

    Returns:
        Two float64 tensors of the broadcast batch shape, differentiable in every argument, also by
        ``torch.func``.
    """
    shapes = [scale.shape[:-1], radius.shape]
    shapes += [] if df is None else [df.shape]
    shapes += [] if normal is None else [normal.shape[:-1]]
    batch = torch.broadcast_shapes(*shapes)

    def flat(x: Tensor, event: Shape = ()) -> Tensor:
        return x.double().expand(batch + torch.Size(event)).reshape(-1, *event)

    dim = scale.shape[-1:]
    covariance = _Covariance.of(
        flat(scale, dim).square(), None if normal is None else flat(normal, dim)
    )
    form = _Form(covariance, flat(radius).square(), None if df is None else flat(df))
    s, steps, lower = _path(form)
    log_tail = _log_integral(s, steps, *covariance, *form[1:])
    # The tail is the rarer event, if not by far. Clamped, its complement has finite derivatives.
    log_tail = log_tail.clamp(max=-torch.finfo(torch.float64).eps)
    log_other = torch.log(-torch.expm1(log_tail))
    inside = torch.where(lower, log_tail, log_other)
    outside = torch.where(lower, log_other, log_tail)
    return inside.reshape(batch), outside.reshape(batch)


def _log_integral(s: Tensor, steps: Tensor, *form: Tensor | None) -> Tensor:
    # torch.func's transforms want plain operations, though these keep what all nodes need.
    if torch._C._are_functorch_transforms_active():
        return _integrate_blocks(s, steps, form, False)[0]
    log_integral: Tensor = _LogIntegral.apply(s, steps, *form)
    return log_integral


class _LogIntegral(torch.autograd.Function):
    """Log of Im ∫ exp(K)/s ds / π, shape (n,), at nodes s and with steps ds/s, (n, m)."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, steps: Tensor, *form: Tensor | None) -> Tensor:
        """With the gradients in the form's tensors, which come from the same pass."""
        log_integral, *gradients = _integrate_blocks(s, steps, form, any(ctx.needs_input_grad))
        ctx.num_gradients = len(gradients)
        ctx.save_for_backward(*gradients, s, steps, *form)
        return log_integral

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients found on the way, times that of the integral.

        For a second derivative they are found anew, as functions of the form: the nodes are right
        for any form nearby, so the derivative of the rule is the rule of the derivative.
        """
        gradients = ctx.saved_tensors[: ctx.num_gradients]
        if torch.is_grad_enabled():  # by create_graph
            s, steps, *form = ctx.saved_tensors[ctx.num_gradients :]
            gradients = _integrate_blocks(s, steps, form, True)[1:]
        gradients = [grad.reshape(-1, *[1] * (x.dim() - 1)) * x for x in gradients]
        no_df = [None] * (6 - len(gradients))
        return None, None, *gradients, *no_df


def _integrate_blocks(
    s: Tensor, steps: Tensor, tensors: Sequence[Any], with_gradient: bool
) -> list[Tensor]:
    """:func:`_integrate` by blocks: what is found for a datum, node and coordinate stays small."""
    form = _Form(_Covariance(*tensors[:4]), *tensors[4:])
    cells = _BLOCK if s.device.type == "cpu" else _GPU_BLOCK
    block = max(1, cells // (s.shape[1] * form.covariance.variance.shape[1]))
    parts = [slice(i, i + block) for i in range(0, max(1, len(s)), block)]
    results = [_integrate(s[i], steps[i], form.rows(i), with_gradient) for i in parts]
    return [torch.cat(x) for x in zip(*results, strict=True)]


def _integrate(s: Tensor, steps: Tensor, form: _Form, with_gradient: bool) -> tuple[Tensor, ...]:
    """Log of the integral over n paths; then its gradients in the form's tensors, if asked for."""
    cumulant, determinant = form.cumulant(s)
    # The peak is divided out before the exponential: probabilities far below 1e-308 are in reach.
    peak = cumulant.real[:, :1]
    share = torch.exp(cumulant - peak) * steps
    integral = share.imag.sum(-1, keepdim=True) / math.pi
    # Below 1e-(10^9) rounding at the singularity may even cost the sign: such a tail is nothing.
    tiny = torch.finfo(torch.float64).tiny
    log_integral = (peak + integral.clamp(min=tiny).log())[:, 0]
    if not with_gradient:
        return (log_integral,)
    share = torch.where(integral > tiny, share / (math.pi * integral), 0)
    in_covariance = determinant.gradient(-0.5 * share)
    return log_integral, *in_covariance, *form.log_divisor_gradient(s, -share)


@torch.no_grad()
def _path(form: _Form) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes s and steps ds/s on the path of steepest descent, (n, m); whether it is the lower tail.

    With y = width · sinh(v), the path is x = sign(bend) (√(1 + y²bend²) − 1)/|bend| right of the
    saddle point: a hyperbola with curvature ``bend`` there, then 45 degrees. The nodes are even in
    v, up to where the integrand has decayed.
    """
    saddle, width, bend, lower = (x[:, None] for x in _saddle_point(form))

    # Left of the pole at zero the integral is minus the lower tail.
    sign = torch.where(lower, -1.0, 1.0).to(width)

    def at(v: Tensor) -> tuple[Tensor, Tensor]:
        y, dy = width * torch.sinh(v), sign * width * torch.cosh(v)
        root = torch.sqrt(1 + (y * bend).square())
        s = torch.complex(saddle + y.square() * bend / (1 + root), y)
        return s, torch.complex(y * bend / root * dy, dy) / s

    def log_size(v: Tensor) -> Tensor:
        s, slope = at(v)
        return form.cumulant(s)[0].real + slope.abs().log()

    limit = torch.full_like(width, _V_MAX)
    floor = log_size(limit / 2**16) - _DECAY
    end = _bisect(lambda v: log_size(v) > floor, limit, _END_BISECTIONS)
    count = _num_nodes(form.covariance.variance.shape[-1])
    middle = torch.arange(count, dtype=end.dtype, device=end.device) + 0.5
    s, slope = at(end / count * middle)
    return s, slope * end / count, lower[:, 0]


def _saddle_point(form: _Form) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Saddle point, width and bend of the path of steepest descent, and which tail it gives."""
    covariance, square, df = form
    zero = torch.zeros_like(square)
    inverse_df = zero if df is None else 1 / df
    trace = covariance.slope(zero)
    lower = trace > square  # E‖y‖² > r² E g: the ball is the rarer event
    sign = torch.where(lower, -1.0, 1.0).to(square)

    def falls(size: Tensor) -> Tensor:
        """Whether K − log|s|, seen from zero, falls at s = sign · size."""
        s = sign * size
        slope = covariance.slope(-2 * s) - square / (1 + 2 * s * square * inverse_df) - 1 / s
        return slope * sign < 0

    # Between the bounds lies no singularity of K. A normal vector has none below, but there the
    # slope has changed sign by (D/2 + 1)/r².
    dim = covariance.variance.shape[-1]
    below = (dim / 2 + 1) / square if df is None else df / (2 * square)
    bound = torch.where(lower, below, covariance.bound())
    # K(s) − log|s| is convex on either side of zero: its slope, seen from zero, changes sign once.
    saddle = sign * _bisect(falls, bound, _SADDLE_BISECTIONS)
    # The bend leaves out the pole at zero: it would turn the path to the side where exp(K) grows
    # again, beyond its own singularities, when degrees of freedom and dimension are far apart.
    _, k2, k3 = covariance.slopes(-2 * saddle)
    pole = square / (1 + 2 * saddle * square * inverse_df)
    d2 = -2 * k2 + 2 * pole.pow(2) * inverse_df + saddle.pow(-2)  # of K − log|s|
    d3 = 4 * k3 - 8 * pole.pow(3) * inverse_df.pow(2)  # of K
    bend = d3 / (3 * d2)
    # Where the path bends within the width of the peak, as it does around the singularity of few
    # degrees of freedom, the nodes must be as dense as it bends.
    return saddle, torch.minimum(d2.rsqrt(), 1 / bend.abs()), bend, lower
