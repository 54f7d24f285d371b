"""How posteriors narrow with the number of views that they see."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vje_pyro.evaluation.detection import percentile_figure, resample_counts
from vje_pyro.evaluation.result import Figure
from vje_pyro.evaluation.risk_coverage import RESAMPLES
from vje_pyro.evaluation.uncertainty import mean_figure

Floats = NDArray[np.floating]


def contraction_figures(
    scales: Mapping[int, Floats], experts: Floats, prior_scale: Floats
) -> dict[str, Figure]:
    r"""``views-K_entropy``, ``views-K_variance`` and ``views-K_predicted-variance`` of K views.

    Entropy (nats) and variance are means over images and features. Independent views add up their
    precisions; if all told the same, the variance of a feature from K views would be

    .. math::
        \frac{1}{\sigma_0^{-2} + K \overline a}, \quad
        \overline a = \text{mean}_{i, v}\ \max(\sigma_{iv}^{-2} - \sigma_0^{-2},\ 0)

    with the mean over images and views of the precision that one view adds to the prior's. The
    prediction is its mean over features. What is measured lies above it as far as images, and views
    of an image, differ in what they tell.

    Args:
        scales: Posterior standard deviations ``(N, D)`` of N images, by the number of views.
        experts: Those from each view alone, ``(V, N, D)``.
        prior_scale: Of the prior, ``(D,)``.

    Raises:
        ValueError: If shapes do not fit or a scale is not positive.
    """
    shape = experts.shape[1:]
    if prior_scale.shape != shape[1:] or any(s.shape != shape for s in scales.values()):
        raise ValueError(
            f"scales of {shape} wanted of every number of views, and {shape[1:]} of the prior, got "
            f"{[s.shape for s in scales.values()]} and {prior_scale.shape}."
        )
    if not all((s > 0).all() for s in (experts, prior_scale, *scales.values())):
        raise ValueError("a scale is a standard deviation: all must be positive.")
    prior = prior_scale.astype(np.float64) ** -2
    added = np.maximum(experts.astype(np.float64) ** -2 - prior, 0).mean(0)
    n = len(added)
    means = np.vstack([added.mean(0), resample_counts(n, RESAMPLES, (0,)) @ added / n])
    figures = {}
    for k, scale in scales.items():
        log_scale = np.log(scale.astype(np.float64))
        entropy = log_scale.mean(1) + 0.5 * np.log(2 * np.pi * np.e)
        figures[f"views-{k}_entropy"] = mean_figure(entropy)
        figures[f"views-{k}_variance"] = mean_figure(np.exp(2 * log_scale).mean(1))
        value, *draws = (1 / (prior + k * means)).mean(1)
        figures[f"views-{k}_predicted-variance"] = percentile_figure(
            float(value), np.array(draws), n, "95% bootstrap over test images"
        )
    return figures
