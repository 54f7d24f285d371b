"""Logistic regression with a Gaussian prior, whose posterior over the weights is Laplace's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats.qmc import MultivariateNormalQMC
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vje_pyro.heads.head import Head
from vje_pyro.heads.latents import Floats, Latents

LOG_PRECISION_RANGE = 8.0
"""How far the logarithm of the precision may be from its prior mean."""

LOGIT_DRAWS = 256
MAX_ITERATIONS = 10_000
_ELEMENTS = 1 << 22
"""Of an intermediate array."""


class LaplaceHead(Head):
    r"""Multinomial logistic regression with Laplace's posterior over the weights.

    Features are standardised by the statistics of all images, labelled or not, and a constant is
    appended. The prior of the weights is :math:`N(0, \alpha^{-1} I)`; scikit-learn finds their mode
    W. The Hessian there is taken with its Kronecker factors,

    .. math::
        H \approx \alpha I + n\, A \otimes G, \quad A = \overline{x x^\top}, \quad
        G = \overline{\mathrm{diag}\,p - p p^\top}

    so that eigenvectors U, Q and eigenvalues a, g of A and G give all that is needed in O(D³ + C³).
    The precision has a log-normal prior, :math:`\log\alpha \sim N(\log D, 1)`, which gives the
    logits of an average image a variance of about 1, and is set to its mode given Laplace's
    marginal likelihood of the labelled images (empirical Bayes),

    .. math::
        \sum_i \log p(y_i \mid x_i, W) - \tfrac{\alpha}{2} \lVert W \rVert^2
        + \tfrac{C (D + 1)}{2} \log \alpha - \tfrac12 \sum_{jk} \log(\alpha + n a_j g_k).

    The model is linear in the weights, so the logits of an image are Gaussian without further
    linearisation; the class probabilities are the mean softmax over draws of

    .. math::
        f \sim N\Bigl(W x,\ Q\,\mathrm{diag}(v)\,Q^\top\Bigr), \quad
        v_k = \sum_j \frac{(U^\top x)_j^2}{\alpha + n a_j g_k}.

    For posteriors :math:`N(\mu, \mathrm{diag}\,\sigma^2)` the weights maximise the mean
    log-likelihood of draws of every labelled image, at the precision that their means give; in the
    prediction :math:`x` becomes :math:`\mu`, :math:`(U^\top x)_j^2` its expectation, and
    :math:`W \mathrm{diag}(\sigma^2) W^\top` is added to the covariance of the logits.

    Args:
        classes: As :class:`~vje_pyro.heads.head.Head`.
        num_samples: Draws of a labelled image's posterior.
        seed: Of all draws.

    Attributes:
        classes_: The classes, ``(C,)``.
        precision_: :math:`\alpha`.
        coef_: W, ``(C, D + 1)``; the last column belongs to the constant.

    Source: MacKay, "The evidence framework applied to classification networks" (1992); Kronecker
    factors: Ritter, Botev & Barber, "A scalable Laplace approximation for neural networks"
    (ICLR 2018).

    Example:
        >>> from sklearn.datasets import load_digits
        >>> x, y = load_digits(return_X_y=True)
        >>> few = np.where(np.arange(len(y)) < 100, y, -1)
        >>> head = LaplaceHead().fit(x, few)
        >>> bool(head.score(x[100:], y[100:]) > 0.75)
        True
    """

    def __init__(
        self, classes: Sequence[int] | None = None, num_samples: int = 16, seed: int = 0
    ) -> None:
        super().__init__(classes)
        self.num_samples = num_samples
        self.seed = seed

    def _fit(self, latents: Latents, y: NDArray[np.intp], labelled: NDArray[np.bool_]) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}.")
        self._scaler = StandardScaler().fit(latents.loc)
        few, prior = latents[labelled], np.log(self.n_features_in_)
        means = self._inputs(few.loc)

        def objective(log_precision: float) -> float:
            evidence = self._log_evidence(means, y, float(np.exp(log_precision)))
            return 0.5 * (log_precision - prior) ** 2 - evidence

        bounds = prior - LOG_PRECISION_RANGE, prior + LOG_PRECISION_RANGE
        options = {"xatol": 0.1}
        best = minimize_scalar(objective, bounds=bounds, method="bounded", options=options).x
        self.precision_ = float(np.exp(best))
        draws = 1 if few.variance is None else self.num_samples
        rng = np.random.default_rng(self.seed)
        x = np.concatenate([self._inputs(few.draw(rng)) for _ in range(draws)])
        self._find_mode(x, np.tile(y, draws), self.precision_, weight=1 / draws)

    def _log_evidence(self, x: Floats, y: NDArray[np.intp], precision: float) -> float:
        """Laplace's log marginal likelihood of points, nats, less a constant."""
        self._find_mode(x, y, precision)
        log_p = log_softmax(x @ self.coef_.T, axis=1)[np.arange(len(x)), y]
        curvature = precision + np.outer(self._curvature, self._class_curvature)
        return float(
            log_p.sum()
            - 0.5 * precision * np.square(self.coef_).sum()
            + 0.5 * self.coef_.size * np.log(precision)
            - 0.5 * np.log(curvature).sum()
        )

    def _find_mode(
        self, x: Floats, y: NDArray[np.intp], precision: float, weight: float = 1.0
    ) -> None:
        """The weights' mode, and the eigenvalues and vectors of the Hessian's factors there."""
        # scikit-learn has one row of weights for two classes, w₁ − w₀, with half the penalty.
        two = len(self.classes_) == 2
        c = weight * (2 if two else 1) / precision
        model = LogisticRegression(C=c, fit_intercept=False, max_iter=MAX_ITERATIONS)
        weights = model.fit(x, y).coef_
        self.coef_ = np.vstack([-weights, weights]) / 2 if two else weights
        p = softmax(x @ self.coef_.T, axis=1)
        curvature, self._input_axes = np.linalg.eigh(weight * x.T @ x)
        class_curvature, self._class_axes = np.linalg.eigh(np.diag(p.mean(0)) - p.T @ p / len(p))
        # Rounding makes zeros negative.
        self._curvature = np.maximum(curvature, 0)  # n a
        self._class_curvature = np.maximum(class_curvature, 0)

    def _inputs(self, z: Floats) -> Floats:
        return np.column_stack([self._scaler.transform(z), np.ones(len(z))])

    def logits(self, latents: Latents) -> tuple[Floats, Floats]:
        """Mean ``(N, C)`` and covariance ``(N, C, C)`` of the logits."""
        x = self._inputs(latents.loc)
        square = (x @ self._input_axes) ** 2
        weights, axes = self.coef_, self._class_axes
        if latents.variance is not None:
            variance = latents.variance / self._scaler.scale_**2
            square = square + variance @ self._input_axes[:-1] ** 2
        v = square @ (1 / (self.precision_ + np.outer(self._curvature, self._class_curvature)))
        covariance = (v[:, None, :] * axes) @ axes.T
        if latents.variance is not None:
            covariance = covariance + (variance[:, None, :] * weights[:, :-1]) @ weights[:, :-1].T
        return x @ weights.T, covariance

    def _predict_proba(self, latents: Latents) -> Floats:
        c, d = self.coef_.shape
        noise = MultivariateNormalQMC(np.zeros(c), rng=self.seed).random(LOGIT_DRAWS)
        size = max(1, _ELEMENTS // (c * max(d, LOGIT_DRAWS)))
        parts = (latents[start : start + size] for start in range(0, len(latents), size))
        return np.concatenate([expected_softmax(*self.logits(part), noise) for part in parts])


def expected_softmax(mean: Floats, covariance: Floats, noise: Floats) -> Floats:
    """Mean softmax of Gaussian logits.

    Args:
        mean: ``(N, C)``.
        covariance: ``(N, C, C)``, positive definite.
        noise: Standard normal draws ``(S, C)``, the same for every image.

    Returns:
        Probabilities ``(N, C)``.
    """
    logits = mean[:, None] + noise @ np.linalg.cholesky(covariance).transpose(0, 2, 1)
    probabilities: Floats = softmax(logits, axis=-1).mean(axis=1)
    return probabilities
