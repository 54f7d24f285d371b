"""Probability that a centred Student-t or normal vector falls in a ball, to full precision.

With y ~ Normal(0, C) and g ~ chi²(df)/df, the Student-t vector w = y/√g has ‖w‖ ≤ r exactly when
the linear combination of chi-squares Q = ‖y‖² − r² g is not positive. Its cumulant function

    K(s) = −½ log det(I − 2 s C) − (df/2) log(1 + 2 s r²/df)

is elementary (for a normal vector, df → ∞, the second term is −s r²), and the probability is a
contour integral of exp(K(s))/s. The contour crosses the real line at the saddle point and follows
the path of steepest descent of exp(K) (a hyperbola with the same curvature there), so that the
integrand does not oscillate before it has decayed and a trapezoidal rule gives about ten digits
*relative* to the probability, however small it is.

Source: inversion as in Imhof (1961), "Computing the distribution of quadratic forms in normal
variables"; contour through the saddle point as in Rice (1980), "Distribution of quadratic forms in
normal random variables"; the O(D) determinant is this project's.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Double-exponential nodes t = sinh(π/2 sinh v): at v = 4.2 even the slowest integrand (three
# degrees of freedom in all, decay t^{-2}) has fallen below 1e-20 of its peak.
NUM_NODES = 128
_V_MAX = 4.2
_BISECTIONS = 40


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

    def log_det(self, a: Tensor) -> Tensor:
        """Log det(I + a C), shape (...), for complex ``a`` of shape (...).

        In real arithmetic, which is many times faster than torch's complex logarithm.
        """
        real = 1 + a.real[..., None] * self.variance
        imag = a.imag[..., None] * self.variance
        square = real.square() + imag.square()
        log_product = torch.complex(0.5 * square.log().sum(-1), torch.atan2(imag, real).sum(-1))
        share = self.weight / square
        rest = torch.complex((share * real).sum(-1), -(share * imag).sum(-1))
        return log_product + (self.top_weight + (1 + a * self.top_variance) * rest).log()

    def slopes(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First three derivatives of :meth:`log_det` in a real ``a``."""
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
            rest = (self.weight / (1 - 2 * s[..., None] * self.variance)).sum(-1)
            return self.top_weight + (1 - 2 * s * self.top_variance) * rest > 0

        return low + _bisect(positive, high - low)


def _bisect(is_left: Callable[[Tensor], Tensor], bound: Tensor) -> Tensor:
    """Largest x found in (0, bound) that is still left, bisected in log(x / (bound − x)).

    The root may be far below the bound, or so close to it that only the distance tells.
    """
    low, high = torch.full_like(bound, -90.0), torch.full_like(bound, 30.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        left = is_left(bound * torch.sigmoid(middle))
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return bound * torch.sigmoid(low)


def _log_divisor(s: Tensor, square: Tensor, df: Tensor | None) -> Tensor:
    """Minus log E exp(−s r² g), for complex ``s``: simply s r² where g is one."""
    x = s * square
    return x if df is None else 0.5 * df * torch.log1p(2 * x / df)


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
        Two float64 tensors of the broadcast batch shape, differentiable in every argument.
    """
    variance = scale.double().square()
    normal = None if normal is None else normal.double()
    shapes = [variance.shape[:-1], radius.shape]
    shapes += [] if df is None else [df.shape]
    shapes += [] if normal is None else [normal.shape[:-1]]
    batch = torch.broadcast_shapes(*shapes)
    variance = variance.expand(batch + variance.shape[-1:])
    normal = None if normal is None else normal.expand(batch + normal.shape[-1:])
    df = None if df is None else df.double().expand(batch)
    square = radius.double().square().expand(batch)
    covariance = _Covariance.of(variance, normal)

    saddle, width, bend, lower = _saddle_point(covariance, df, square)
    step = _V_MAX / NUM_NODES
    v = step * torch.arange(NUM_NODES + 1, dtype=torch.float64, device=square.device)
    y = torch.sinh(math.pi / 2 * torch.sinh(v))
    dy = math.pi / 2 * torch.cosh(v) * torch.cosh(math.pi / 2 * torch.sinh(v)) * step
    dy[0] /= 2  # the trapezoid's end; the other end has decayed
    shape = (-1,) + (1,) * len(batch)
    y, dy = width * y.reshape(shape), width * dy.reshape(shape)

    # Hyperbola x = sign(bend) (√(1 + y²bend²) − 1)/|bend|: curvature ``bend``, then 45 degrees.
    root = torch.sqrt(1 + (y * bend).square())
    s = torch.complex(saddle + y.square() * bend / (1 + root), y)
    ds = torch.complex(y * bend / root * dy, dy)
    log_integrand = -0.5 * covariance.log_det(-2 * s) - _log_divisor(s, square, df)
    # The peak is divided out before the exponential: probabilities far below 1e-308 are in reach.
    peak = log_integrand.real[0].detach()
    integral = (torch.exp(log_integrand - peak) / s * ds).imag.sum(0) / math.pi
    integral = torch.where(lower, -integral, integral)
    # Below 1e-(10^9) rounding at the singularity may even cost the sign: such a tail is nothing.
    log_tail = peak + integral.clamp(min=torch.finfo(torch.float64).tiny).log()
    log_tail = log_tail.clamp(max=-torch.finfo(torch.float64).tiny)
    log_other = torch.log(-torch.expm1(log_tail))
    return torch.where(lower, log_tail, log_other), torch.where(lower, log_other, log_tail)


@torch.no_grad()
def _saddle_point(
    covariance: _Covariance, df: Tensor | None, square: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Saddle point, width and bend of the path of steepest descent, and which tail it gives."""
    zero = torch.zeros_like(square)
    inverse_df = zero if df is None else 1 / df
    trace = covariance.slopes(zero)[0]
    lower = trace > square  # E‖y‖² > r² E g: the ball is the rarer event
    sign = torch.where(lower, -1.0, 1.0).to(square)

    def slopes(size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """K' − 1/s and its derivative, that of K − log|s| twice, and K''', at s = sign · size."""
        s = sign * size
        k1, k2, k3 = covariance.slopes(-2 * s)
        pole = square / (1 + 2 * s * square * inverse_df)
        return (
            k1 - pole - 1 / s,
            -2 * k2 + 2 * pole.pow(2) * inverse_df + s.pow(-2),
            4 * k3 - 8 * pole.pow(3) * inverse_df.pow(2),
        )

    # Between the bounds lies no singularity of K. A normal vector has none below, but there the
    # slope has changed sign by (D/2 + 1)/r².
    dim = covariance.variance.shape[-1]
    below = (dim / 2 + 1) / square if df is None else df / (2 * square)
    bound = torch.where(lower, below, covariance.bound())
    # K(s) − log|s| is convex on either side of zero: its slope, seen from zero, changes sign once.
    size = _bisect(lambda x: slopes(x)[0] * sign < 0, bound)
    # The bend leaves out the pole at zero: it would turn the path to the side where exp(K) grows
    # again, beyond its own singularities, when degrees of freedom and dimension are far apart.
    _, d2, k3 = slopes(size)
    return sign * size, d2.rsqrt(), k3 / (3 * d2), lower
