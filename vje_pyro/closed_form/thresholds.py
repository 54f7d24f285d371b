"""How well views must be aligned with irrelevant features, for either method to drop them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Thresholds:
    """Least alignment α, for n → ∞, above which either learns the important features; 0: any."""

    reconstruction: float
    joint_embedding: float


def alignment_thresholds(
    signal: ArrayLike, generic_signal: ArrayLike, irrelevant: ArrayLike, generic: ArrayLike
) -> Thresholds:
    r"""The thresholds of both methods.

    Important feature i ≤ k has variance :math:`\kappa_i^2/n`. Irrelevant feature i > k is noise of
    variance :math:`\lambda^\Gamma_i`. Views add noise: of variance :math:`\lambda^\Theta_i` to
    every feature and, aligned with the irrelevant ones, :math:`\alpha^2 \lambda^\Gamma_i` more.

    .. math::

        \alpha_{RC}^2 &= \max_{i>k} \lambda^\Gamma_i / \eta^2
            - \lambda^\Theta_i / \lambda^\Gamma_i - 1, \qquad
        \eta = \min_{i \le k} \frac{\kappa_i^2/n}{\sqrt{\kappa_i^2/n + \lambda^\Theta_i}} \\
        \alpha_{JE}^2 &= \max_{i>k} (1-\delta)/\delta - \lambda^\Theta_i / \lambda^\Gamma_i,
            \qquad \delta = \min_{i \le k} \frac{\kappa_i^2/n}{\kappa_i^2/n + \lambda^\Theta_i}

    Source: Van Assel et al. (arXiv 2505.12477).

    Args:
        signal: Variances of the important features, ``(k,)``, positive.
        generic_signal: Generic noise of views on them, ``(k,)`` or a scalar, not negative.
        irrelevant: Variances of the irrelevant features, ``(m,)``, positive.
        generic: Generic noise of views on them, ``(m,)`` or a scalar, not negative.

    Raises:
        ValueError: If a variance is out of its range.

    >>> alignment_thresholds([4.0, 1.0], 1.0, [5.0], 0.0)  # strong irrelevant features
    Thresholds(reconstruction=3.0, joint_embedding=1.0)
    >>> alignment_thresholds([4.0, 1.0], 1.0, [0.1], 0.0)  # weak ones
    Thresholds(reconstruction=0.0, joint_embedding=1.0)
    """
    signal, generic_signal, irrelevant, generic = (
        np.atleast_1d(np.asarray(v, dtype=np.float64))
        for v in (signal, generic_signal, irrelevant, generic)
    )
    for name, values, least in (
        ("signal", signal, np.nextafter(0, 1)),
        ("generic_signal", generic_signal, 0.0),
        ("irrelevant", irrelevant, np.nextafter(0, 1)),
        ("generic", generic, 0.0),
    ):
        if not (values.size and np.isfinite(values).all() and values.min() >= least):
            raise ValueError(f"{name}: variances wanted, finite and not negative, got {values}")
    eta_squared = np.min(signal**2 / (signal + generic_signal))
    delta = np.min(signal / (signal + generic_signal))
    squared_rc = np.max(irrelevant / eta_squared - generic / irrelevant) - 1
    squared_je = np.max((1 - delta) / delta - generic / irrelevant)
    return Thresholds(math.sqrt(max(squared_rc, 0.0)), math.sqrt(max(squared_je, 0.0)))
