r"""Class means with one covariance: the conjugate prior, its update, evidence and predictive.

.. math::
    \Sigma \sim \mathrm{IW}(\Psi, \nu), \quad \mu_c \mid \Sigma \sim N(m_c, \Sigma / \kappa_c),
    \quad x \mid c \sim N(\mu_c, \Sigma)

Source: the standard conjugate family, as in Murphy, "Conjugate Bayesian analysis of the Gaussian
distribution" (2007), section 9; there of one mean, here of C means that share the covariance.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.special import gammaln, multigammaln

from vje_pyro.heads.latents import Floats


@dataclass(frozen=True, eq=False)
class Statistics:
    r"""Expected sufficient statistics of Gaussian classes.

    Args:
        count: Images :math:`n_c`, ``(C,)``.
        total: Sums :math:`\sum_{i \in c} E[x_i]`, ``(C, K)``.
        second: :math:`\sum_i E[x_i x_i^\top]` over all classes, ``(K, K)``. With
            :math:`x_i \sim N(\mu_i, S_i)` a term is :math:`\mu_i \mu_i^\top + S_i`.
    """

    count: Floats
    total: Floats
    second: Floats

    @classmethod
    def of(cls, x: Floats, y: NDArray[np.intp], num_classes: int) -> Self:
        """Statistics of points ``(N, K)`` with classes 0 … C − 1."""
        member = np.eye(num_classes)[y]
        return cls(member.sum(0), member.T @ x, x.T @ x)

    def plus_covariance(self, covariance: Floats) -> Self:
        """With the sum over images of their own covariances, ``(K, K)``, added."""
        return replace(self, second=self.second + covariance)

    def block(self, part: slice) -> Self:
        """Statistics of some of the features."""
        return replace(self, total=self.total[:, part], second=self.second[part, part])


@dataclass(frozen=True, eq=False)
class NormalInverseWishart:
    """A normal-inverse-Wishart law of C means and one covariance.

    Args:
        loc: Means :math:`m_c`, ``(C, K)``.
        concentration: :math:`\\kappa_c`, how many images each is worth, ``(C,)``, positive.
        scatter: :math:`\\Psi`, ``(K, K)``, positive definite.
        df: :math:`\\nu`, above K − 1.

    Raises:
        ValueError: If shapes do not fit, or a parameter is outside its range.

    Example:
        >>> prior = NormalInverseWishart(np.zeros((2, 1)), np.ones(2), np.eye(1), 3.0)
        >>> x, y = np.array([[-1.0], [1.0]]), np.array([0, 1])
        >>> prior.update(Statistics.of(x, y, 2)).loc
        array([[-0.5],
               [ 0.5]])
    """

    loc: Floats
    concentration: Floats
    scatter: Floats
    df: float

    def __post_init__(self) -> None:
        classes, k = self.loc.shape
        if self.concentration.shape != (classes,) or self.scatter.shape != (k, k):
            raise ValueError(
                f"loc {self.loc.shape} needs {classes} concentrations and a scatter of {(k, k)}, "
                f"got {self.concentration.shape} and {self.scatter.shape}."
            )
        if not (self.concentration > 0).all() or not self.df > k - 1:
            raise ValueError(
                f"concentrations must be positive and df above {k - 1}, got "
                f"{self.concentration.min()} and {self.df}."
            )
        try:
            _ = self.factor
        except LinAlgError as error:
            raise ValueError(f"the scatter is not positive definite: {error}.") from error

    @cached_property
    def factor(self) -> Floats:
        """Cholesky factor of the scatter, ``(K, K)``."""
        return cholesky(self.scatter, lower=True)

    def update(self, data: Statistics) -> Self:
        """The posterior after data, which is of the same family."""
        concentration = self.concentration + data.count
        weighted = self.concentration[:, None] * self.loc
        loc = (weighted + data.total) / concentration[:, None]
        scatter = (
            self.scatter
            + data.second
            + weighted.T @ self.loc
            - (concentration[:, None] * loc).T @ loc
        )
        return type(self)(loc, concentration, scatter, self.df + float(data.count.sum()))

    def log_evidence(self, data: Statistics) -> float:
        """Log marginal likelihood of data, nats; of expected statistics, a bound."""
        posterior, k = self.update(data), self.loc.shape[1]
        pi_term = 0.5 * k * float(data.count.sum()) * math.log(math.pi)
        return posterior._log_partition() - self._log_partition() - pi_term

    def _log_partition(self) -> float:
        k = self.loc.shape[1]
        log_det = 2 * np.log(np.diag(self.factor)).sum()
        return float(
            multigammaln(self.df / 2, k)
            - self.df / 2 * log_det
            - k / 2 * np.log(self.concentration).sum()
        )

    def log_predictive(self, x: Floats) -> Floats:
        r"""Log density of a new point under every class, ``(N, C)`` from ``(N, K)``: Student's t.

        .. math::
            p(x \mid c) = t_{\nu - K + 1}\!\left(x;\ m_c,\
            \Psi \frac{\kappa_c + 1}{\kappa_c (\nu - K + 1)}\right)

        It takes O(K²) a point, for all classes together.
        """
        k = self.loc.shape[1]
        white = solve_triangular(self.factor, x.T, lower=True).T
        means = solve_triangular(self.factor, self.loc.T, lower=True).T
        square = (white**2).sum(1)[:, None] - 2 * white @ means.T + (means**2).sum(1)
        ratio = self.concentration / (self.concentration + 1)
        log_norm = (
            gammaln((self.df + 1) / 2)
            - gammaln((self.df + 1 - k) / 2)
            - k / 2 * math.log(math.pi)
            - np.log(np.diag(self.factor)).sum()
            + k / 2 * np.log(ratio)
        )
        result: Floats = log_norm - (self.df + 1) / 2 * np.log1p(ratio * np.maximum(square, 0))
        return result
