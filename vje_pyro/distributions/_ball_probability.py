"""Probability that a centred multivariate Student-t vector falls in a ball, to full precision.

With y ~ Normal(0, C) and g ~ chi²(df)/df, the Student-t vector w = y/√g has ‖w‖ ≤ r exactly when
the linear combination of chi-squares Q = ‖y‖² − r² g is not positive. Its cumulant function

    K(s) = −½ log det(I − 2 s C) − (df/2) log(1 + 2 s r²/df)

is elementary, and the probability is a contour integral of exp(K(s))/s. The contour crosses the
real line at the saddle point and follows the path of steepest descent (a hyperbola with the same
curvature there), so that the integrand does not oscillate before it has decayed and a trapezoidal
rule gives about ten digits *relative* to the probability, however small it is.

Source: inversion as in Imhof (1961), "Computing the distribution of quadratic forms in normal
variables"; contour through the saddle point as in Rice (1980), "Distribution of quadratic forms in
normal random variables"; the O(D) determinant is this project's.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Double-exponential nodes t = sinh(π/2 sinh v): at v = 4.2 even the slowest integrand (three
# degrees of freedom in all, decay t^{-2}) has fallen below 1e-20 of its peak.
_NUM_NODES = 320
_V_MAX = 4.2
# The saddle point need not be exact: it only says where the contour crosses the real line.
_BISECTIONS = 30


def _log_det(a: Tensor, variance: Tensor, normal: Tensor | None) -> Tensor:
    """Log det(I + a C), shape (...), for complex ``a`` of shape (...).

    C is diag(variance), conditioned on ``normal · y = 0`` where a normal is given; the matrix
    determinant lemma then makes it a sum over coordinates.
    """
    inverse = 1 / (1 + a[..., None] * variance)
    log_det = -inverse.log().sum(-1)
    if normal is not None:
        log_det = log_det + (_weight(variance, normal) * inverse).sum(-1).log()
    return log_det


def _log_det_slopes(
    a: Tensor, variance: Tensor, normal: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """First three derivatives of :func:`_log_det` in a real ``a``."""
    inverse = 1 / (1 + a[..., None] * variance)
    ratio = variance * inverse
    slopes = [ratio.sum(-1), -ratio.pow(2).sum(-1), 2 * ratio.pow(3).sum(-1)]
    if normal is not None:
        f0, f1, f2, f3 = (
            sign * (_weight(variance, normal) * inverse * ratio.pow(k)).sum(-1)
            for k, sign in enumerate((1, -1, 2, -6))
        )
        f1, f2, f3 = f1 / f0, f2 / f0, f3 / f0
        correction = (f1, f2 - f1.pow(2), f3 - 3 * f1 * f2 + 2 * f1.pow(3))
        slopes = [slope + extra for slope, extra in zip(slopes, correction, strict=True)]
    return slopes[0], slopes[1], slopes[2]


def _weight(variance: Tensor, normal: Tensor) -> Tensor:
    weight = normal.square() * variance
    return weight / weight.sum(-1, keepdim=True)


def _bisect_log(
    is_left: Callable[[Tensor], Tensor], bound: Tensor, decades: float = 40.0
) -> Tensor:
    """Root in (bound·10^−decades, bound) of an increasing function, bisected in the logarithm."""
    high = bound.log()
    low = high - decades * math.log(10)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        left = is_left(middle.exp())
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return ((low + high) / 2).exp()


def log_ball_probability(
    scale: Tensor, df: Tensor, radius: Tensor, normal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``(log P(‖w‖ ≤ radius), log P(‖w‖ > radius))`` of a centred Student-t vector.

    Args:
        scale: Positive scales of the coordinates, shape (..., D).
        df: Degrees of freedom, shape (...).
        radius: Radius of the ball, shape (...).
        normal: Unit vector, shape (..., D): w is restricted to its orthogonal complement, with the
            scale matrix that diag(scale⁻²) induces there (the conditional distribution).

    Returns:
        Two float64 tensors of the broadcast batch shape, differentiable in every argument.
    """
    variance = scale.double().square()
    normal = None if normal is None else normal.double()
    shapes = [variance.shape[:-1], df.shape, radius.shape]
    batch = torch.broadcast_shapes(*shapes, *([] if normal is None else [normal.shape[:-1]]))
    df, square = (x.double().expand(batch) for x in (df, radius.square()))
    variance = variance.expand(batch + variance.shape[-1:])
    normal = None if normal is None else normal.expand(batch + normal.shape[-1:])

    saddle, width, bend, lower = _saddle_point(variance, df, square, normal)
    step = _V_MAX / _NUM_NODES
    v = step * torch.arange(_NUM_NODES + 1, dtype=torch.float64, device=df.device)
    y = torch.sinh(math.pi / 2 * torch.sinh(v))
    dy = math.pi / 2 * torch.cosh(v) * torch.cosh(math.pi / 2 * torch.sinh(v)) * step
    dy[0] /= 2  # the trapezoid's end; the other end has decayed
    shape = (-1,) + (1,) * len(batch)
    y, dy = width * y.reshape(shape), width * dy.reshape(shape)

    # Hyperbola x = sign(bend) (√(1 + y²bend²) − 1)/|bend|: curvature ``bend``, then 45 degrees.
    root = torch.sqrt(1 + (y * bend).square())
    s = torch.complex(saddle + y.square() * bend / (1 + root), y)
    ds = torch.complex(y * bend / root * dy, dy)
    log_det = _log_det(-2 * s, variance, normal)
    log_integrand = -0.5 * log_det - 0.5 * df * torch.log(1 + 2 * s * square / df)
    # The peak is divided out before the exponential: probabilities far below 1e-308 are in reach.
    peak = log_integrand.real[0].detach()
    integral = (torch.exp(log_integrand - peak) / s * ds).imag.sum(0) / math.pi
    log_tail = peak + torch.where(lower, -integral, integral).log()
    log_tail = log_tail.clamp(max=-torch.finfo(torch.float64).tiny)
    log_other = torch.log(-torch.expm1(log_tail))
    return torch.where(lower, log_tail, log_other), torch.where(lower, log_other, log_tail)


@torch.no_grad()
def _saddle_point(
    variance: Tensor, df: Tensor, square: Tensor, normal: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Saddle point, width and bend of the path of steepest descent, and which tail it gives."""
    zero = torch.zeros_like(df)
    trace = _log_det_slopes(zero, variance, normal)[0]
    lower = trace > square  # E‖y‖² > r² E g: the ball is the rarer event
    sign = torch.where(lower, -1.0, 1.0).to(df)

    def slopes(size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First three derivatives of K(s) − log|s| at s = sign · size."""
        s = sign * size
        k1, k2, k3 = _log_det_slopes(-2 * s, variance, normal)
        pole = square / (1 + 2 * s * square / df)
        return (
            k1 - pole - 1 / s,
            -2 * k2 + 2 * pole.pow(2) / df + s.pow(-2),
            4 * k3 - 8 * pole.pow(3) / df.pow(2) - 2 * s.pow(-3),
        )

    # Between them lies no singularity of K; at the bounds themselves terms would cancel.
    bound = torch.where(lower, df / (2 * square), 1 / (2 * variance.amax(-1))) * (1 - 1e-4)
    # K(s) − log|s| is convex on either side of zero: its slope, seen from zero, changes sign once.
    size = _bisect_log(lambda x: slopes(x)[0] * sign < 0, bound)
    _, d2, d3 = slopes(size)
    return sign * size, d2.rsqrt(), d3 / (3 * d2), lower
