"""How posteriors narrow with the number of views that they see."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vje_pyro.statistics import Figure, bootstrap_mean

Floats = NDArray[np.floating]


def contraction_figures(
    scales: Mapping[int, Floats], experts: Floats, prior_scale: Floats
) -> dict[str, Figure]:
    r"""``views-K_entropy``, ``views-K_variance`` and ``views-K_predicted-variance`` of K views.

    Entropy (nats) and variance are means over images and features. Independent views add up their
    precisions; if all V views of an image told the same, the variance from K of them would be

    .. math::
        \frac{1}{\sigma_0^{-2} + K \overline a}, \quad
        \overline a = \frac1V \sum_v \max(\sigma_v^{-2} - \sigma_0^{-2},\ 0)

    with the mean of the precision that one view adds to the prior's, of each image and feature; the
    prediction is the mean of that. What is measured lies above it as far as views of one image
    differ in what they tell, and on it where K = V.

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
    figures: dict[str, Any] = {}
    for k, scale in scales.items():
        log_scale = np.log(scale.astype(np.float64))
        of_images = {
            "entropy": log_scale + 0.5 * np.log(2 * np.pi * np.e),
            "variance": np.exp(2 * log_scale),
            "predicted-variance": 1 / (prior + k * added),
        }
        figures |= {
            f"views-{k}_{n}": bootstrap_mean(v.mean(1), "test images") for n, v in of_images.items()
        }
    return figures
