"""Outlier scores of an image by its own posterior, of the image as it is and of random views."""

from typing import Any

import torch
from torch import Tensor

NUM_SAMPLES = 16
"""Latent samples of an expectation."""


def likelihood_scores(method: Any, images: Tensor, num_samples: int = NUM_SAMPLES) -> dict:
    """Of images under their own posteriors, in nats: ``elbo`` (less the ELBO), the factors, ``kl``.

    Args:
        method: A probabilistic method, in evaluation mode.
        images: Normalised images ``(B, C, H, W)``.
        num_samples: Latent samples of an expectation.

    Returns:
        Tensors ``(B,)``: minus the ELBO and minus each factor's expected log-likelihood, and the
        KL as it is.
    """
    terms = method.log_likelihood(images, images, num_samples)
    return {name: value if name == "kl" else -value for name, value in terms.items()}


def between_scores(method: Any, views: Tensor, num_samples: int = NUM_SAMPLES) -> dict:
    r"""How badly the views of an image predict each other, in nats.

    - ``between``: mean over the pairs (i, i + 1) of a ring of minus
      :math:`E_{q(z \mid s_i)} \log p(s_{i+1} \mid z)`;
    - ``between-direction``: the same of the directional factor alone;
    - ``between-variance``: variance over the pairs of that log-likelihood, as the functional
      variance of Watanabe's information criterion, with views in the place of posterior draws.

    Args:
        method: A probabilistic method, in evaluation mode.
        views: Normalised views ``(V, B, C, H, W)``, V at least 2.
        num_samples: Latent samples of an expectation.

    Returns:
        Tensors ``(B,)``.

    Raises:
        ValueError: If there are fewer than two views.
    """
    if len(views) < 2:
        raise ValueError(f"a likelihood between views needs at least two, got {len(views)}.")
    pairs = zip(views, views.roll(-1, 0), strict=True)
    terms = [method.log_likelihood(one, two, num_samples) for one, two in pairs]
    total = torch.stack([_log_likelihood(t) for t in terms])
    scores = {"between": -total.mean(0), "between-variance": total.var(0)}
    if "direction" in terms[0]:
        scores["between-direction"] = -torch.stack([t["direction"] for t in terms]).mean(0)
    return scores


def _log_likelihood(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the factors."""
    factors = [value for name, value in terms.items() if name not in ("elbo", "kl")]
    return torch.stack(factors).sum(0)
