"""Logistic regression with a Gaussian posterior over the weights: the variational Laplace one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats.qmc import MultivariateNormalQMC
from sklearn.preprocessing import StandardScaler

from vje_pyro.heads.head import Head
from vje_pyro.heads.latents import Floats, Latents

PRECISION_PRIOR = 0.1, 0.5
"""Of the prior precision: median in units of D, and standard deviation of the logarithm. Chosen on
validation images."""

LOG_PRECISION_RANGE = 4.0
"""How far the logarithm of the precision may be from its prior mean."""

LOGIT_DRAWS, FIT_DRAWS = 256, 64
MAX_ITERATIONS, TOLERANCE = 100, 0.01
"""Of the fit; it ends when the bound rises by less than this, in nats."""

_ELEMENTS = 1 << 22
"""Of an intermediate array."""


class LaplaceHead(Head):
    r"""Multinomial logistic regression with a Gaussian posterior over the weights.

    Features are standardised by the statistics of all images, labelled or not, and a constant is
    appended. The prior of the weights is :math:`N(0, \alpha^{-1} I)`. With a few labels the mode
    lies far inside the posterior, so that Laplace's Gaussian there is too timid. Here mean M and
    Hessian are those of the variational Gaussian: the probabilities of the labelled images in them
    are expectations under the Gaussian itself,

    .. math::
        \alpha M = \sum_i (y_i - E p_i) x_i^\top, \quad
        H = \alpha I + n\, A \otimes G, \quad A = \overline{x x^\top}, \quad
        G = \overline{E[\mathrm{diag}\,p - p p^\top]}

    with the Hessian in Kronecker factors, so that eigenvectors U, Q and eigenvalues a, g of A and G
    give all that is needed in O(D³ + C³). The precision has a log-normal prior
    (:data:`PRECISION_PRIOR`) and is set to its mode given the evidence lower bound of the labelled
    images (empirical Bayes),

    .. math::
        \sum_i E \log p(y_i \mid x_i) - \tfrac{\alpha}{2} \lVert M \rVert^2
        - \tfrac12 \sum_{jk} \Bigl(\frac{\alpha}{\alpha + n a_j g_k} - 1
        + \log \frac{\alpha + n a_j g_k}{\alpha}\Bigr).

    The logits of an image are Gaussian; the class probabilities are the mean softmax over draws of

    .. math::
        f \sim N\Bigl(M x,\ Q\,\mathrm{diag}(v)\,Q^\top\Bigr), \quad
        v_k = \sum_j \frac{(U^\top x)_j^2}{\alpha + n a_j g_k}.

    For posteriors :math:`N(\mu, \mathrm{diag}\,\sigma^2)` the Gaussian is fitted to draws of every
    labelled image, at the precision that their means give; in the prediction :math:`x` becomes
    :math:`\mu`, :math:`(U^\top x)_j^2` its expectation, and
    :math:`M \mathrm{diag}(\sigma^2) M^\top` is added to the covariance of the logits.

    Args:
        classes: As :class:`~vje_pyro.heads.head.Head`.
        num_samples: Draws of a labelled image's posterior.
        seed: Of all draws.

    Attributes:
        classes_: The classes, ``(C,)``.
        precision_: :math:`\alpha`.
        coef_: M, ``(C, D + 1)``; the last column belongs to the constant.

    Source: Gaussian variational inference, Opper & Archambeau, "The variational Gaussian
    approximation revisited" (2009); that Laplace's is underconfident: Kuss & Rasmussen, "Assessing
    approximate inference for binary Gaussian process classification" (JMLR 2005); Kronecker
    factors: Ritter, Botev & Barber, "A scalable Laplace approximation for neural networks" (ICLR
    2018).

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
        few, (median, spread) = latents[labelled], PRECISION_PRIOR
        prior = np.log(median * self.n_features_in_)
        data = self._labelled(self._inputs(few.loc), y)

        def objective(log_precision: float) -> float:
            bound = data.approximate(float(np.exp(log_precision))).bound
            return 0.5 * ((log_precision - prior) / spread) ** 2 - bound

        bounds = prior - LOG_PRECISION_RANGE, prior + LOG_PRECISION_RANGE
        best = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 0.1})
        self.precision_ = float(np.exp(best.x))
        if few.variance is not None:
            rng = np.random.default_rng(self.seed)
            x = np.concatenate([self._inputs(few.draw(rng)) for _ in range(self.num_samples)])
            data = self._labelled(x, np.tile(y, self.num_samples), 1 / self.num_samples)
        self._posterior = data.approximate(self.precision_)
        self._input_axes = data.axes
        self.coef_ = self._posterior.mean @ data.axes.T

    def _labelled(self, x: Floats, y: NDArray[np.intp], weight: float = 1.0) -> "Labelled":
        num_classes = len(self.classes_)
        noise = MultivariateNormalQMC(np.zeros(num_classes), rng=self.seed).random(FIT_DRAWS)
        return Labelled.of(x, np.eye(num_classes)[y], noise, weight)

    def _inputs(self, z: Floats) -> Floats:
        return np.column_stack([self._scaler.transform(z), np.ones(len(z))])

    def logits(self, latents: Latents) -> tuple[Floats, Floats]:
        """Mean ``(N, C)`` and covariance ``(N, C, C)`` of the logits."""
        x = self._inputs(latents.loc)
        square = (x @ self._input_axes) ** 2
        weights, axes = self.coef_, self._posterior.class_axes
        if latents.variance is not None:
            variance = latents.variance / self._scaler.scale_**2
            square = square + variance @ self._input_axes[:-1] ** 2
        v = square @ self._posterior.variance
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


@dataclass(frozen=True)
class Gaussian:
    """Weights in the eigenbasis of the inputs, and the bound of the evidence at their law."""

    mean: Floats  # (C, D)
    class_axes: Floats  # Q, (C, C)
    variance: Floats  # of the weights along input axis j and class axis k, (D, C)
    bound: float  # evidence lower bound, nats
    step: Floats  # to a better mean, (C, D)
    hessian: Floats  # expected G under this Gaussian, (C, C)


@dataclass(frozen=True)
class Labelled:
    """Labelled inputs in their eigenbasis."""

    inputs: Floats  # (n, D)
    target: Floats  # one-hot classes, (n, C)
    curvature: Floats  # eigenvalues of the weighted sum of x xᵀ, (D,)
    axes: Floats  # its eigenvectors U, (D, D)
    noise: Floats  # standard normal draws that expectations are taken over, (S, C)
    weight: float  # of a row

    @classmethod
    def of(cls, x: Floats, target: Floats, noise: Floats, weight: float = 1.0) -> "Labelled":
        """From inputs ``(n, D)`` as they are."""
        curvature, axes = np.linalg.eigh(weight * x.T @ x)
        # Rounding makes zeros negative.
        return cls(x @ axes, target, np.maximum(curvature, 0), axes, noise, weight)

    def approximate(self, precision: float) -> Gaussian:
        """The variational Gaussian: Newton steps, halved until the bound does not fall."""
        num_classes = self.target.shape[1]
        flat = (np.eye(num_classes) - 1 / num_classes) / num_classes
        best = self.gaussian(np.zeros((num_classes, len(self.curvature))), flat, precision)
        for _ in range(MAX_ITERATIONS):
            before, size = best.bound, 1.0
            while size > 1e-2:
                new = self.gaussian(best.mean + size * best.step, best.hessian, precision)
                if new.bound >= before:
                    break
                size /= 2
            if new.bound <= before + TOLERANCE:
                return new if new.bound > before else best
            best = new
        return best

    def gaussian(self, mean: Floats, hessian: Floats, precision: float) -> Gaussian:
        """The Gaussian with a mean and class factor G, and what its draws of the logits tell."""
        class_curvature, class_axes = np.linalg.eigh(hessian)
        ratio = np.outer(self.curvature, np.maximum(class_curvature, 0)) / precision
        variance = 1 / (precision * (1 + ratio))
        spread = np.sqrt(self.inputs**2 @ variance)[:, None, :] * class_axes  # (n, C, C)
        logits = (self.inputs @ mean.T)[:, None] + self.noise @ spread.transpose(0, 2, 1)
        log_p = log_softmax(logits, axis=-1)  # (n, S, C)
        p = np.exp(log_p)
        mean_p = p.mean(1)
        gradient = self.weight * (self.target - mean_p).T @ self.inputs - precision * mean
        kl = 0.5 * (
            precision * np.square(mean).sum() + (1 / (1 + ratio) - 1 + np.log1p(ratio)).sum()
        )
        return Gaussian(
            mean=mean,
            class_axes=class_axes,
            variance=variance,
            bound=float(self.weight * (self.target * log_p.mean(1)).sum() - kl),
            step=class_axes @ (class_axes.T @ gradient * variance.T),
            hessian=np.diag(mean_p.mean(0)) - np.tensordot(p, p, ((0, 1), (0, 1))) / p[..., 0].size,
        )


def expected_softmax(mean: Floats, covariance: Floats, noise: Floats) -> Floats:
    """Mean softmax ``(N, C)`` of Gaussian logits, by standard normal draws ``(S, C)``."""
    logits = mean[:, None] + noise @ np.linalg.cholesky(covariance).transpose(0, 2, 1)
    probabilities: Floats = softmax(logits, axis=-1).mean(axis=1)
    return probabilities
