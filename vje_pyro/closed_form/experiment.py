"""The linear experiment: images beside weak or strong irrelevant features, views ever more aligned.

An image is its k leading principal components, the important features. Beside them stand noise
features of one variance λ, alike in training and test data, that say nothing about the class. Views
add noise: the generic one to the image, of the variance of its least component, and the aligned
one, α times the noise of the irrelevant features, to these. The encoders are the closed forms, with
the views' moments in expectation, and keep k directions; a linear probe reads their features.

Source: setting and closed forms of Van Assel et al. (arXiv 2505.12477); the data, the two strengths
and the generic noise are this project's.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vje_pyro.atomic import write_atomic
from vje_pyro.closed_form.solutions import (
    Matrix,
    ViewMoments,
    joint_embedding,
    reconstruction,
)
from vje_pyro.closed_form.thresholds import Thresholds, alignment_thresholds
from vje_pyro.data import DataSource, ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation.linear import linear_predict
from vje_pyro.provenance import origin
from vje_pyro.statistics import SHARE, over_repetitions

SCHEMA, SCHEMA_VERSION = "vje-pyro-closed-form", 1

STRENGTHS = {"weak": 0.1, "strong": 30.0}
"""Variance of the irrelevant features, in units of η², below which reconstruction ignores them."""

ALPHAS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
"""Alignments. None is 1, the threshold of joint embedding for the generic noise chosen here."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Principal components of images."""

    train: Matrix  # (n, k), uncorrelated, with variances ``signal``
    test: Matrix  # (m, k), in the same basis
    train_labels: NDArray[np.int64]  # (n,)
    test_labels: NDArray[np.int64]  # (m,)

    @property
    def signal(self) -> NDArray[np.float64]:
        """Variances κ²/n of the components, descending, ``(k,)``."""
        signal: NDArray[np.float64] = np.mean(self.train**2, axis=0)
        return signal


def principal_components(source: DataSource, k: int) -> LabelledFeatures:
    """The k leading components of a data set's images, fitted on the training split.

    Raises:
        DataError: If the data set is not held in memory or has fewer than k components.
    """
    train, test = source.split("train"), source.split("test")
    if not (isinstance(train, ImageArray) and isinstance(test, ImageArray)):
        raise DataError(f"{source.name} is not held in memory: choose a smaller data set")
    pixels = [s.images.flatten(1).double().numpy() / 255 for s in (train, test)]
    mean = pixels[0].mean(axis=0)
    _, values, basis = np.linalg.svd(pixels[0] - mean, full_matrices=False)
    if k > len(values) or values[k - 1] < 1e-6 * values[0]:
        raise DataError(f"the images have no {k} components that vary: ask for fewer")
    first, second = ((x - mean) @ basis[:k].T for x in pixels)
    return LabelledFeatures(first, second, train.labels.numpy(), test.labels.numpy())


def run_experiment(
    features: LabelledFeatures,
    *,
    irrelevant_features: int,
    alphas: Sequence[float] = ALPHAS,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Both methods at every strength and alignment.

    Args:
        features: The important features.
        irrelevant_features: How many noise features stand beside them.
        alphas: Alignments of the views.
        seeds: Of the noise features' draws, at least two.

    Returns:
        JSON-like: per strength the ``variance``, the ``thresholds``, and per method and alignment
        the ``accuracy`` of the probe and the share of the representation's variance that is
        ``irrelevant``, figures with a t-interval over seeds; and the accuracy on the important
        features alone, ``clean``.

    Raises:
        ValueError: If there is no irrelevant feature or are fewer than two seeds.
    """
    if irrelevant_features < 1:
        raise ValueError(f"at least one irrelevant feature wanted, got {irrelevant_features}")
    signal = features.signal
    generic = float(signal[-1])
    eta = generic / np.sqrt(2 * generic)
    clean = linear_predict(features.train, features.train_labels, features.test)
    strengths = {}
    for name, factor in STRENGTHS.items():
        variance = factor * eta**2
        noise = np.full(irrelevant_features, variance)
        curves = _curves(features, noise, generic, alphas, seeds)
        thresholds: Thresholds = alignment_thresholds(signal, generic, noise, 0.0)
        strengths[name] = {"variance": variance, "thresholds": asdict(thresholds), "curves": curves}
    return {
        "clean": float(np.mean(clean == features.test_labels)),
        "generic_variance": generic,
        "signal_variances": signal.tolist(),
        "strengths": strengths,
    }


def _curves(
    features: LabelledFeatures,
    noise: NDArray[np.float64],
    generic: float,
    alphas: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, list[dict[str, Any]]]:
    drawn = [_with_noise(features, noise, seed) for seed in seeds]
    k = features.train.shape[1]
    curves: dict[str, list[dict[str, Any]]] = {"reconstruction": [], "joint_embedding": []}
    for alpha in alphas:
        added = np.concatenate([np.full(k, generic), alpha**2 * noise])
        for method, points in curves.items():
            measured = [_measure(method, train, test, added, features) for train, test in drawn]
            figures = map(_figure, zip(*measured, strict=True))
            names = ("accuracy", "irrelevant")
            points.append({"alpha": alpha, **dict(zip(names, figures, strict=True))})
    return curves


def _with_noise(
    features: LabelledFeatures, noise: NDArray[np.float64], seed: int
) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)

    def beside(x: Matrix) -> Matrix:
        return np.hstack([x, rng.standard_normal((len(x), len(noise))) * np.sqrt(noise)])

    return beside(features.train), beside(features.test)


def _measure(
    method: str,
    train: Matrix,
    test: Matrix,
    added: NDArray[np.float64],
    features: LabelledFeatures,
) -> tuple[float, float]:
    """Accuracy of the probe, and the irrelevant share of the representation's variance."""
    k = features.train.shape[1]
    second = train.T @ train / len(train)
    # The mean view is the datum itself; the views' covariance is that of the noise they add.
    moments = ViewMoments(cross=second, between=second, within=np.diag(added))
    if method == "reconstruction":
        encoder = reconstruction(moments, k).encoder
    else:
        encoder, _ = joint_embedding(moments, k)
    predicted = linear_predict(train @ encoder.T, features.train_labels, test @ encoder.T)
    accuracy = float(np.mean(predicted == features.test_labels))
    important = float(np.sum((train[:, :k] @ encoder[:, :k].T) ** 2))
    irrelevant = float(np.sum((train[:, k:] @ encoder[:, k:].T) ** 2))
    return accuracy, irrelevant / (important + irrelevant)


def _figure(values: Sequence[float]) -> dict[str, Any]:
    return asdict(over_repetitions(values, SHARE, "draws of the noise"))


def write_result(
    out: Path, source: DataSource, settings: dict[str, Any], measured: dict[str, Any]
) -> Path:
    """Write what was measured, on what and by which code, to ``out/closed-form-NAME.json``."""
    result = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "dataset": source.name}
    result |= {"settings": settings, **measured, **origin()}
    path = out / f"closed-form-{source.name}.json"
    write_atomic(path, json.dumps(result, indent=2).encode())
    return path
