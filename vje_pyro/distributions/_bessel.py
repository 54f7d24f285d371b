"""The modified Bessel function of the first kind, for any order and argument, in float64.

0F1(; v+1; κ²/4) = Γ(v+1) (2/κ)^v I_v(κ) is one at κ = 0, where I_v is zero: its logarithm and the
derivative of that, the Bessel ratio I_{v+1}(κ)/I_v(κ), keep their relative precision for small
arguments as for large ones.

The uniform expansion for large orders (DLMF 10.41.3, after Olver) holds for every argument. A small
order is reached from a large one by the recurrence of the ratios, which is stable downwards.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

# With eight terms from this order on, the expansion is right to about 1e-11.
_MIN_ORDER = 16
_TERMS = 8


def log_hyp0f1(order: float, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """``(log 0F1(; v+1; κ²/4), I_{v+1}(κ)/I_v(κ))``: a function of κ and its derivative.

    Two float64 tensors of the shape of ``kappa``, positive; the order v is not negative.
    """
    kappa = kappa.double()
    steps = max(0, math.ceil(_MIN_ORDER - order))
    log_f, ratio = _expansion(order + steps, kappa)
    for step in reversed(range(steps)):
        # I_v = I_{v+2} + 2 (v+1)/κ I_{v+1}, divided by its last term.
        twice = 2 * (order + step + 1)
        gain = kappa * ratio / twice
        log_f = log_f + torch.log1p(gain)
        ratio = kappa / (twice * (1 + gain))
    return log_f, ratio


def _expansion(order: float, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`log_hyp0f1` for a large order."""
    root = torch.sqrt(kappa.square() + order**2)
    excess = kappa.square() / (root + order)  # root − order
    p = order / root
    # A few numbers, whose copy nothing has to wait for.
    series, slope, quotient = (torch.as_tensor(x).to(p, non_blocking=True) for x in _series(order))
    powers = p[..., None] ** torch.arange(len(series), dtype=p.dtype, device=p.device)
    log_f = (
        excess - order * torch.log1p(excess / (2 * order))
        - 0.5 * torch.log1p(excess / order)
        + torch.log1p(-excess / root * (powers[..., :-1] @ quotient))
    )  # fmt: skip
    log_slope = p * (powers[..., :-1] @ slope) / (powers @ series)
    ratio = kappa / (root + order) - kappa / root.square() * (0.5 + log_slope)
    return log_f, ratio


@cache
def _series(order: float) -> list[np.ndarray]:
    """Coefficients of S(p) = Σ_k U_k(p)/v^k over S(1), of its slope, and of (1 − S)/(1 − p).

    The polynomials U_k follow from their recurrence, DLMF 10.41.9. S(1) is Stirling's series for
    the Gamma function of 0F1.
    """
    p = Polynomial([0.0, 1.0])
    u = series = Polynomial([1.0])
    for k in range(1, _TERMS):
        u = p**2 * (1 - p**2) * u.deriv() / 2 + ((1 - 5 * p**2) * u).integ() / 8
        series = series + u / order**k
    series = series / series(1.0)
    polynomials = series, series.deriv(), (series - 1) // (p - 1)
    return [x.coef for x in polynomials]
