"""Gaussian classes with normal-inverse-Wishart priors that unlabelled images inform."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf

from vje_pyro.heads.head import Head
from vje_pyro.heads.latents import Floats, Latents
from vje_pyro.heads.normal_inverse_wishart import NormalInverseWishart, Statistics

RATIOS = np.geomspace(1e-3, 10, 25)
"""Candidates of the ratio of variance between classes to variance within."""

EXPONENTS = (1.0, 0.5)
"""Candidates of the power of a direction's variance that the ratio there is proportional to."""

LOG_RATIO_PRIOR, EXPONENT_PRIOR = (np.log(0.1), 1.0), (1.0, 0.5)
"""Mean and standard deviation of their priors, chosen on validation images."""

FLOOR = 1e-9
"""Least variance of a direction, of the largest; least share of the posteriors' means."""


class GaussianHead(Head):
    r"""Class-conditional Gaussians with one covariance, under normal-inverse-Wishart priors.

    All images, labelled or not, give the mean and the principal directions (covariance by Ledoit &
    Wolf); features are the coordinates along these, each divided by its standard deviation.
    Directions of large variance tell more of the classes, so the directions are cut into octaves
    (1–2, 3–4, 5–8, 9–16, …), each with a prior of its own: in an octave of K directions

    .. math::
        \Sigma \sim \mathrm{IW}\bigl((\delta - 2) W I,\ \delta + K - 1\bigr), \quad
        \mu_c \mid \Sigma \sim N(0, \Sigma / \kappa), \quad
        \kappa = \frac{W}{B}, \quad B + W = 1, \quad B = l \frac{r}{1 + r}, \quad
        r = \rho\, \overline{\lambda^\gamma} \frac{\sum_j \lambda_j}{\sum_j \lambda_j^{1 + \gamma}}

    with :math:`\lambda_j` the variance of the posterior means along direction j,
    :math:`\overline{\lambda^\gamma}` a mean over the octave, and :math:`l` the share that the
    posterior means have there in the total variance (1 for points). γ = 1 is what an isotropic
    prior of the weights of a linear classifier implies. The ratio :math:`\rho` of variance between
    classes to variance within, and γ, have priors (:data:`LOG_RATIO_PRIOR`, log-normal;
    :data:`EXPONENT_PRIOR`) and are set to their mode given the labelled images (empirical Bayes).

    The predictive density of a point is a product over octaves of Student's t in closed form, and
    classes follow by Bayes, their own probabilities being :math:`(n_c + 1) / (n + C)`.

    Posteriors :math:`q_i = N(\mu_i, \mathrm{diag}\,\sigma_i^2)` enter the covariance and the
    statistics by :math:`E[z z^\top] = \mu_i \mu_i^\top + \mathrm{diag}\,\sigma_i^2`, and the
    prediction by :math:`p(c \mid q) = E_q\,p(c \mid z)`, the mean over draws. ρ and γ are judged on
    the means alone, for they hold no sampling noise of their posteriors.

    Args:
        classes: As :class:`~vje_pyro.heads.head.Head`.
        df: :math:`\delta`, degrees of freedom of the predictive before any label, above 2: fewer
            have heavier tails, and let the labelled images change the covariance more. Chosen on
            validation images.
        num_samples: Draws of a posterior.
        seed: Of the draws.

    Attributes:
        classes_: The classes, ``(C,)``.
        ratio_: :math:`\rho`.
        exponent_: :math:`\gamma`.

    Raises:
        ValueError: If ``df`` is not above 2, or ``num_samples`` below 1, when it is fitted.

    Source: the conjugate family (Murphy, 2007, section 9); octaves and prior are this project's.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> x, y = load_digits(return_X_y=True)
        >>> few = np.where(np.arange(len(y)) < 100, y, -1)
        >>> head = GaussianHead().fit(x, few)
        >>> head.predict_proba(x[100:]).shape
        (1697, 10)
        >>> bool(head.score(x[100:], y[100:]) > 0.7)
        True
    """

    def __init__(
        self,
        classes: Sequence[int] | None = None,
        df: float = 30.0,
        num_samples: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(classes)
        self.df = df
        self.num_samples = num_samples
        self.seed = seed

    def _fit(self, latents: Latents, y: NDArray[np.intp], labelled: NDArray[np.bool_]) -> None:
        if not self.df > 2 or self.num_samples < 1:
            raise ValueError(
                f"df must be above 2 and num_samples at least 1, got {self.df}, {self.num_samples}."
            )
        self._find_directions(latents)
        few, num_classes = latents[labelled], len(self.classes_)
        locations = Statistics.of(self._coordinates(few.loc), y, num_classes)
        self.ratio_, self.exponent_ = max(
            product(RATIOS.tolist(), EXPONENTS),
            key=lambda pair: self._log_mode(pair[0], pair[1], locations),
        )
        data = locations
        if few.variance is not None:
            axes = self._axes
            data = locations.plus_covariance(axes.T @ (few.variance.sum(0)[:, None] * axes))
        self._posteriors = [
            self._prior(part, self.ratio_, self.exponent_, noise=True).update(data.block(part))
            for part in self._octaves
        ]
        self._log_class = np.log((data.count + 1) / (data.count.sum() + num_classes))

    def _log_mode(self, ratio: float, exponent: float, data: Statistics) -> float:
        """Log of prior and evidence of the two hyperparameters, less a constant."""
        pairs = (np.log(ratio), LOG_RATIO_PRIOR), (exponent, EXPONENT_PRIOR)
        log_prior = sum(-0.5 * ((value - mean) / std) ** 2 for value, (mean, std) in pairs)
        return log_prior + sum(
            self._prior(part, ratio, exponent).log_evidence(data.block(part))
            for part in self._octaves
        )

    def _find_directions(self, latents: Latents) -> None:
        """Mean, axes that make the total covariance the identity, and the octaves."""
        self._mean = latents.loc.mean(0)
        covariance, _ = ledoit_wolf(latents.loc - self._mean, assume_centered=True)
        means_covariance = covariance
        if latents.variance is not None:
            covariance = covariance + np.diag(latents.variance.mean(0))
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        values = np.maximum(values, FLOOR * values[0])
        self._axes = vectors / np.sqrt(values)
        of_means = np.einsum("ij,ik,kj->j", vectors, means_covariance, vectors)
        self._location_variance = np.clip(of_means, FLOOR * values, values)
        self._share = self._location_variance / values
        edges = [0, *(2**i for i in range(1, len(values).bit_length()) if 2**i < len(values))]
        self._octaves = [slice(a, b) for a, b in pairwise([*edges, len(values)])]

    def _coordinates(self, z: Floats) -> Floats:
        return (z - self._mean) @ self._axes

    def _prior(
        self, part: slice, ratio: float, exponent: float, noise: bool = False
    ) -> NormalInverseWishart:
        """Prior of an octave: of the posteriors' means, or with their variances as noise."""
        variance, k = self._location_variance, part.stop - part.start
        power = variance**exponent
        r = ratio * power[part].mean() * variance.sum() / (variance @ power)
        share = self._share[part].mean()
        between = share * r / (1 + r)
        within = (1 if noise else share) - between
        return NormalInverseWishart(
            np.zeros((len(self.classes_), k)),
            np.full(len(self.classes_), within / between),
            (self.df - 2) * within * np.eye(k),
            self.df + k - 1,
        )

    def log_density(self, z: Floats) -> Floats:
        r"""Predictive log density of points under every class, nats, ``(N, C)`` from ``(N, D)``."""
        coordinates = self._coordinates(z)
        log_jacobian = np.linalg.slogdet(self._axes)[1]
        parts = zip(self._posteriors, self._octaves, strict=True)
        density: Floats = log_jacobian + sum(p.log_predictive(coordinates[:, s]) for p, s in parts)
        return density

    def _predict_proba(self, latents: Latents) -> Floats:
        rng = np.random.default_rng(self.seed)
        draws = 1 if latents.variance is None else self.num_samples
        total = sum(
            softmax(self.log_density(latents.draw(rng)) + self._log_class, axis=1)
            for _ in range(draws)
        )
        probabilities: Floats = total / draws
        return probabilities
