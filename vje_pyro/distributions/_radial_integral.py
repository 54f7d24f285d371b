"""Integral over the radius of a Student-t or normal density along a ray from the origin.

With a (r − β)² + e² the quadratic form of r u − m (a = Σ u²/τ², β = Σ u m/τ² / a and
e² = Σ (m − β u)²/τ² its least value), the direction u of the vector has the density

    ∫ r^{D−1} kernel(a (r − β)² + e²) dr.

In x = log r the integrand has one peak, whose place is the root of a quadratic, and tails e^{Dx} to
the left and e^{−νx} to the right. Nodes that spread from the peak as sinh make the trapezoidal rule
exact to about ten digits; they are constants, so that its derivative is the derivative's rule.

Source: this project.
"""

import torch
from torch import Tensor

_NUM_NODES = 80
# Terms below e^−40 of the peak are dropped; within a Gaussian peak that is 9 standard deviations.
_DECAY, _DEVIATIONS = 40.0, 9.0


def log_radial_integral(
    dim: int, a: Tensor, beta: Tensor, excess: Tensor, df: Tensor | None
) -> Tensor:
    """Log of the integral over r > 0 of r^{dim−1} times the kernel of a vector's log density.

    The kernel is (1 + q/df)^{−(df+dim)/2} at the quadratic form q = a (r − beta)² + excess, or
    e^{−q/2} without degrees of freedom. All tensors have the shape (...); the result is float64,
    differentiable in every one.
    """
    a, beta, excess = (x.double() for x in (a, beta, excess))
    df = None if df is None else df.double()
    with torch.no_grad():
        peak, x, log_weight = _nodes(dim, a, beta, excess, df)
    # In units of the peak's radius, ρ = r / peak.
    a, beta = a * peak.square(), beta / peak
    if df is None:
        # The difference from the peak's form, without its cancellation.
        change = a * torch.expm1(x) * (torch.exp(x) + 1 - 2 * beta)
        log_peak = -0.5 * (a * (1 - beta).square() + excess)
        log_integrand = dim * x - 0.5 * change
    else:
        # Beyond ρ = 1 the quadratic form is divided by ρ², so that no node overflows.
        outer = x.clamp(min=0)
        form = a * (torch.exp(x - outer) - beta * torch.exp(-outer)).square()
        least = df + excess
        at_peak = a * (1 - beta).square() + least
        log_peak = -0.5 * (df + dim) * (at_peak / df).log()
        log_ratio = 2 * outer + torch.log((form + least * torch.exp(-2 * outer)) / at_peak)
        log_integrand = dim * x - 0.5 * (df + dim) * log_ratio
    integral = torch.logsumexp(log_integrand + log_weight, 0)
    return log_peak + dim * peak.log() + integral


def _nodes(
    dim: int, a: Tensor, beta: Tensor, excess: Tensor, df: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Radius of the peak, and nodes x = log(r/peak) with their log weights, shape (nodes, ...)."""
    inverse_df = torch.zeros_like(a) if df is None else 1 / df
    # Where dim/r equals the slope of the kernel: a r² − 2 h r − dim (1 + c/ν) = 0.
    half = 0.5 * (1 - dim * inverse_df) * a * beta
    constant = dim * (1 + (excess + a * beta.square()) * inverse_df)
    root = (half.square() + a * constant).sqrt()
    peak = torch.where(half > 0, (half + root) / a, constant / (root - half))

    form = a * peak.square()
    if df is None:
        curvature, right_tail = form + dim, torch.zeros_like(a)
    else:
        total = df + excess + a * (peak - beta).square()
        curvature = dim + (df + dim) * form / total - 2 * dim**2 / (df + dim)
        right_tail = _DECAY / df
    width = curvature.rsqrt()
    left = torch.asinh(_DEVIATIONS + _DECAY / dim / width)
    right = torch.asinh(_DEVIATIONS + right_tail / width)
    fraction = torch.linspace(0, 1, _NUM_NODES, dtype=a.dtype, device=a.device)
    v = torch.lerp(-left, right, fraction.reshape(-1, *[1] * width.dim()))
    log_weight = torch.log(width * torch.cosh(v) * (left + right) / (_NUM_NODES - 1))
    return peak, width * torch.sinh(v), log_weight
