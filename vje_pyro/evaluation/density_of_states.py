"""Is an image typical? The density of its statistics among those of training images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, iqr
from torch import Tensor

from vje_pyro.distributions.moments import moments
from vje_pyro.errors import DataError
from vje_pyro.evaluation.p_values import ConformalPValue
from vje_pyro.scores import OutlierScores, check_scores

DENSITY_OF_STATES = "dose"
"""Name of the score."""


class DensityOfStates:
    r"""Minus the sum of the log densities of an image's statistics among training images.

    Unlike a likelihood it is two-sided. Each statistic has a kernel density estimate of its own
    (Gaussian kernel; Silverman's width, 0.9 min(σ, IQR / 1.34) n^(−1/5)). Statistics that all
    training images share are left out.

    Args:
        statistics: Of training images by name, each ``(n,)``.
        calibration: The same of other training images, for the p-values.

    Attributes:
        p_value: From scores to p-values (:class:`~vje_pyro.evaluation.p_values.ConformalPValue`).

    Raises:
        DataError: If no statistic differs between training images.
        NonFiniteError: If a statistic is NaN.

    Source: Morningstar et al., "Density of States Estimation for Out-of-Distribution Detection"
    (arXiv 2006.09273): the kernel variant, there with statistics of a VAE.
    """

    def __init__(self, statistics: OutlierScores, calibration: OutlierScores) -> None:
        finite = {
            name: values[np.isfinite(check_scores(values, f"training images ({name})"))]
            for name, values in statistics.items()
        }
        self.densities = {
            name: gaussian_kde(values, bw_method=_silverman)
            for name, values in finite.items()
            if len(values) > 1 and np.ptp(values) > 1e-6 * np.abs(values).max()
        }
        if not self.densities:
            raise DataError(
                f"none of the statistics {list(statistics)} differs between training images."
            )
        self.p_value = ConformalPValue(self(calibration))

    def __call__(self, statistics: OutlierScores) -> NDArray[np.float64]:
        """Scores ``(N,)`` of images with these statistics; higher is more outlying."""
        terms = [_log_density(density, statistics[n]) for n, density in self.densities.items()]
        scores: NDArray[np.float64] = -np.sum(terms, axis=0)
        return scores


def _log_density(density: gaussian_kde, values: NDArray[np.float64]) -> NDArray[np.float64]:
    result = -np.abs(values)  # of what is infinite or NaN
    finite = np.isfinite(values)
    result[finite] = density.logpdf(values[finite])
    return result


def _silverman(density: gaussian_kde) -> float:
    values = density.dataset[0]
    robust = min(1.0, iqr(values) / 1.34 / values.std(ddof=1)) or 1.0
    return 0.9 * robust * len(values) ** -0.2


def states(method: Any, embeddings: Tensor, scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """The statistics of images: likelihood factors, KL, log det σ and ‖s‖, each ``(B,)``.

    Args:
        method: A probabilistic method, in evaluation mode.
        embeddings: What :meth:`encode` gave of the images, ``(B, D)``.
        scores: What :func:`~vje_pyro.diagnostics.likelihood_scores.likelihood_scores` gave. The
            ELBO is left out: it is the sum of the others.
    """
    statistics = {name: value for name, value in scores.items() if name != "elbo"}
    statistics["log-det"] = moments(method.infer(embeddings).posterior)[1].log().sum(-1)
    statistics["norm"] = embeddings.norm(dim=-1)
    return {name: value.double() for name, value in statistics.items()}
