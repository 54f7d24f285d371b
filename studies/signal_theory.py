r"""What the posterior knows of z at the optimum of the conditional bound, in the Gaussian picture.

Features are independent and alike, and D is large. The posterior of a feature has mean m and
standard deviation s; its *signal* is :math:`a = m / \sqrt{m^2 + s^2}`. With ρ the cosine between
the embeddings of two views, that of a draw of z and the target is :math:`\rho a`, and the law of
the target's direction has, per feature, the log density

.. math::

    f(\rho a, \tau^2) = \max_\ell\ \log \ell - \frac{\ell^2 - 2 \ell \rho a + 1}{2 \tau^2}
        - \tfrac12 \log \tau^2

for a normal vector of scale τ around z, whose length ℓ is integrated out.

Source: this project.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize


def free_signal(beta: ArrayLike, cosine: float) -> NDArray[np.float64]:
    r"""Signal where the law has a scale of its own: 0 from :math:`\beta = \rho^2` on.

    With the best τ a feature contributes :math:`\frac12[-\log(1 - \rho^2 a^2) + \beta \log(1 -
    a^2)]`, which is greatest at :math:`a^2 = (\rho^2 - \beta) / (\rho^2 (1 - \beta))`.

    Example:
        >>> free_signal([0.1, 0.25, 1.0], cosine=0.5).round(3)
        array([0.816, 0.   , 0.   ])
    """
    beta, square = np.asarray(beta, dtype=np.float64), cosine**2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (square - beta) / (square * (1 - beta))
    return np.sqrt(np.where(beta < square, found, 0.0))


class Optimum(NamedTuple):
    """Where the conditional bound is greatest: the signal a, and E z² of a feature."""

    signal: float
    second_moment: float


def shared_optimum(beta: float, cosine: float, df_per_dim: float | None = None) -> Optimum:
    r"""Optimum where the law has the posterior's scale, τ = s, as the paper's has.

    The maximum over m and s of :math:`f(\rho a, s^2) - \frac\beta2 (m^2 + s^2 - 1 - \log s^2)`. The
    signal is positive for every β: without one the law would have the prior's scale, however far
    the target is from z.

    Args:
        beta: Weight of the KL.
        cosine: ρ.
        df_per_dim: ν/D of the Student-t subdensity of the chord; None is the projected normal law.

    Example:
        >>> round(shared_optimum(1.0, cosine=0.5).signal, 2)
        0.26
    """

    def loss(log_parameters: NDArray[np.float64]) -> float:
        mean, scale = np.exp(log_parameters)
        agreement = cosine * mean / np.hypot(mean, scale)
        kl = (mean**2 + scale**2 - 1) / 2 - np.log(scale)
        if df_per_dim is None:
            return beta * kl - log_density(agreement, scale**2)
        return beta * kl - log_subdensity(agreement, scale**2, df_per_dim)

    starts = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.2))
    best = min(
        (minimize(loss, start, method="Nelder-Mead", options={"fatol": 1e-10}) for start in starts),
        key=lambda found: found.fun,
    )
    mean, scale = np.exp(best.x)
    return Optimum(float(mean / np.hypot(mean, scale)), float(mean**2 + scale**2))


def log_subdensity(cosine: float, variance: float, df_per_dim: float) -> float:
    r"""Of the Student-t chord law, per feature, up to a constant.

    .. math:: -\tfrac12 \log \tau^2 - \tfrac12 (1 + \nu/D) \log\Big(1 +
        \frac{2 - 2 \rho a}{\tau^2\,\nu/D}\Big)
    """
    chord = (2 - 2 * cosine) / (variance * df_per_dim)
    return float(-np.log(variance) / 2 - (1 + df_per_dim) / 2 * np.log1p(chord))


def log_density(cosine: float, variance: float) -> float:
    """f of the module's text, in nats per feature, up to a constant."""
    length = (cosine + np.sqrt(cosine**2 + 4 * variance)) / 2
    distance = length**2 - 2 * length * cosine + 1
    return float(np.log(length) - distance / (2 * variance) - np.log(variance) / 2)
