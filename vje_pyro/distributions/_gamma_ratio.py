"""Ratios of Gamma functions of large arguments, without the cancellation of their logarithms."""

import math

import torch
from torch import Tensor

# Stirling's series log Γ(x) = (x − ½) log x − x + ½ log 2π + Σ_k c_k x^{1−2k} (DLMF 5.11.1). From
# x = 16 on these five terms are right to the last digit of float64.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_SHIFT = 16


def log_gamma_ratio(x: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """``(log Γ(x + step)/Γ(x), ψ(x + step) − ψ(x))``: a function of positive x and its derivative.

    Two float64 tensors of the shape of ``x``, both differentiable.
    """
    x = x.double()
    # Γ(x) = Γ(x + n) / Π_j (x + j): argue at a large x + n.
    shifts = x[..., None] + torch.arange(_SHIFT, dtype=x.dtype, device=x.device)
    value = -torch.log1p(step / shifts).sum(-1)
    slope = (step / (shifts * (shifts + step))).sum(-1)

    x = x + _SHIFT
    y = x + step
    log_ratio = torch.log1p(step / x)
    value = value + (y - 0.5) * log_ratio + step * (x.log() - 1)
    slope = slope + log_ratio + step / (2 * x * y)
    for k, c in enumerate(_STIRLING, start=1):
        power = 2 * k - 1
        value = value + c * (y**-power - x**-power)
        slope = slope - c * power * (y ** -(power + 1) - x ** -(power + 1))
    return value, slope


# From x = 5000 on, the first term of Stirling's series is right to the last digit of float64.
_MANY_DF = 1e4


def log_student_t_normalizer(df: Tensor, dim: int) -> Tensor:
    """Log density of a standard Student-t vector at its location, for any degrees of freedom.

    It is log Γ((ν+d)/2)/Γ(ν/2) − (d/2) log(νπ), written as the normal vector's −(d/2) log 2π and a
    rest that vanishes for many degrees of freedom ν: a float64 tensor of the shape of ``df``, for
    vectors of dimension d, ``dim``.
    """
    x, step = df.double() / 2, dim / 2
    y = x + step
    few = torch.lgamma(y) - torch.lgamma(x) - step * x.log()
    many = (y - 0.5) * torch.log1p(step / x) - step + (1 / y - 1 / x) / 12
    return torch.where(df < _MANY_DF, few, many) - step * math.log(2 * math.pi)
