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


def shared_signal(beta: float, cosine: float) -> float:
    r"""Signal where the law has the posterior's scale, τ = s, as the paper's has.

    The maximum over m and s of :math:`f(\rho a, s^2) - \frac\beta2 (m^2 + s^2 - 1 - \log s^2)`. It
    is positive for every β: without signal the law would have the prior's scale, however far the
    target is from z.

    Example:
        >>> round(shared_signal(1.0, cosine=0.5), 2)
        0.26
    """

    def loss(log_parameters: NDArray[np.float64]) -> float:
        mean, scale = np.exp(log_parameters)
        signal = mean / np.hypot(mean, scale)
        kl = (mean**2 + scale**2 - 1) / 2 - np.log(scale)
        return beta * kl - log_density(cosine * signal, scale**2)

    starts = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.2))
    best = min(
        (minimize(loss, start, method="Nelder-Mead", options={"fatol": 1e-10}) for start in starts),
        key=lambda found: found.fun,
    )
    mean, scale = np.exp(best.x)
    return float(mean / np.hypot(mean, scale))


def log_density(cosine: float, variance: float) -> float:
    """f of the module's text, in nats per feature, up to a constant."""
    length = (cosine + np.sqrt(cosine**2 + 4 * variance)) / 2
    distance = length**2 - 2 * length * cosine + 1
    return float(np.log(length) - distance / (2 * variance) - np.log(variance) / 2)
