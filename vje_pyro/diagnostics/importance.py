"""How far the guide is from the posterior, datum by datum, by importance weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro.diagnostics._images import mean_over_images
from vje_pyro.diagnostics._programs import chunks, draw_latents, log_density, seeded
from vje_pyro.diagnostics.arviz_adapter import psislw
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, Verdict, told
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Histogram, Intervals

# With fewer, the tail (a fifth of the draws) is too short to fit.
_MIN_SAMPLES = 100
# Weights that agree to a tenth of a per cent are constant: their spread is rounding.
_CONSTANT = 1e-3
RELIABLE_K = 0.7
"""Up to this k-hat weights can be corrected (Vehtari et al.)."""


@dataclass(frozen=True)
class Importance:
    r"""Importance weights of a guide, :math:`w_s = p(x, z_s) / q(z_s)` with :math:`z_s \sim q`.

    All are per datum, in the order of :class:`Pairs`. Weights are never pooled over data: the
    product of the weights of many data has a heavy tail even where each guide is good.

    Args:
        log_weights: ``(S, M)``, in nats, float64.
        pareto_k: Shape of the generalised Pareto tail of each datum's weights, ``(M,)``. Above 0.7
            the guide misses part of the posterior, and its weights cannot correct it.
        ess: Effective number of the S draws, :math:`(\sum w)^2 / \sum w^2`, ``(M,)``.
        bounds: Importance-weighted bound on the log evidence with K draws, ``(M,)`` in nats, by
            K; K = 1 is the ELBO. It rises with K to the log evidence.
        images: Which image each datum is of, ``(M,)``.
    """

    log_weights: Tensor
    pareto_k: Tensor
    ess: Tensor
    bounds: dict[int, Tensor]
    images: Tensor

    @classmethod
    def of(cls, log_weights: Tensor, images: Tensor, num_particles: Sequence[int]) -> "Importance":
        """From weights ``(S, M)`` and the image of each datum; K that divide S are taken."""
        ks = [k for k in sorted({1, *num_particles}) if not len(log_weights) % k]
        return cls(
            log_weights=log_weights,
            pareto_k=pareto_k(log_weights),
            ess=(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp(),
            bounds={k: importance_weighted_bound(log_weights, k) for k in ks},
            images=images,
        )

    @property
    def verdict(self) -> Verdict:
        """Whether k-hat is above 0.7 for half of the data."""
        k = self.pareto_k.median().item()
        if k <= RELIABLE_K:
            return Verdict(False, f"the guide's draws can be corrected by weights (k-hat {k:.2f}).")
        return Verdict(
            True,
            f"k-hat is {k:.2f} in the median, above 0.7: weights cannot correct the guide. In many "
            f"dimensions small errors of all features are enough: see blocks for where they are.",
        )

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON: means over data with intervals over images, and shares of k-hat."""
        finite = self.pareto_k[self.pareto_k.isfinite()]
        means = {
            "pareto_k_above_0.7": (self.pareto_k > RELIABLE_K).double(),
            "ess_fraction": self.ess / len(self.log_weights),
            "elbo_to_bound": self.bounds[max(self.bounds)] - self.bounds[1],
        }
        bounds = {str(k): mean_over_images(b, self.images) for k, b in self.bounds.items()}
        return {
            "num_samples": len(self.log_weights),
            "num_data": len(self.pareto_k),
            "pareto_k_median": finite.median().item() if len(finite) else None,
            "pareto_k_max": finite.max().item() if len(finite) else None,
            "pareto_k_infinite": len(self.pareto_k) - len(finite),
            "bounds": bounds,
            **{name: mean_over_images(values, self.images) for name, values in means.items()},
        }


def importance_weights(
    pairs: Pairs,
    num_samples: int = 1000,
    seed: int = 0,
    num_particles: Sequence[int] = (1, 10, 100, 1000),
) -> Importance:
    """Importance weights of the guide, and what they say about it.

    Args:
        pairs: The data.
        num_samples: Draws S of the guide for each datum, at least 100.
        seed: Of the draws.
        num_particles: Numbers K of draws in the importance-weighted bounds; those that do not
            divide S are left out. 1 (the ELBO) is always there.

    Raises:
        ValueError: If ``num_samples`` is below 100 or a K below 1.

    Source: k-hat, Vehtari et al., "Pareto smoothed importance sampling" (arXiv 1507.02646), as a
    check of variational inference Yao et al. (arXiv 1802.02538); bounds, Burda et al. (arXiv
    1509.00519), equation 8.
    """
    if num_samples < _MIN_SAMPLES:
        raise ValueError(
            f"num_samples must be at least {_MIN_SAMPLES} for a tail to fit, got {num_samples}."
        )
    if min(num_particles, default=1) < 1:
        raise ValueError(f"num_particles must be positive, got {tuple(num_particles)}.")
    return Importance.of(log_weights(pairs, num_samples, seed), pairs.images, num_particles)


@torch.no_grad()
def log_weights(pairs: Pairs, num_samples: int = 1000, seed: int = 0) -> Tensor:
    """Log importance weight of every draw of every datum, ``(S, M)`` in nats, float64.

    The sum of the model's sites less the sum of the guide's, each datum by itself.
    """
    method, arguments = pairs.method, pairs.arguments()
    parts = []
    with seeded(seed):
        for size in chunks(num_samples, pairs.embeddings.numel()):
            latents = draw_latents(method.guide, arguments, size)
            model = log_density(method.model, arguments, latents)
            guide = log_density(method.guide, arguments, latents)
            parts.append(model.double() - guide.double())
    return torch.cat(parts)


def importance_weighted_bound(log_weights: Tensor, num_particles: int) -> Tensor:
    r"""Mean of :math:`\log \frac1K \sum_k w_k` over the S/K groups of K draws, ``(N,)`` in nats.

    Groups of a larger K, where one divides the other, are unions of smaller ones: the estimates
    then rise with K for every datum, not only on average.

    Args:
        log_weights: ``(S, N)``.
        num_particles: K, a divisor of S.

    Raises:
        ValueError: If K does not divide S.

    Example:
        >>> importance_weighted_bound(torch.zeros(4, 1), 2)
        tensor([0.])
    """
    num_samples = len(log_weights)
    if num_particles < 1 or num_samples % num_particles:
        raise ValueError(
            f"num_particles must divide the number of draws, {num_samples}, got {num_particles}."
        )
    groups = log_weights.unflatten(0, (-1, num_particles))
    return (groups.logsumexp(1) - math.log(num_particles)).mean(0)


def pareto_k(log_weights: Tensor) -> Tensor:
    """PSIS k-hat of each column of weights ``(S, N)``, ``(N,)`` float64.

    0 where all weights are equal; infinite where there is no fit, as with weights that are zero or
    not finite.
    """
    columns = log_weights.T.double().numpy()
    finite = np.isfinite(columns).all(axis=1)
    k = np.where(finite, 0.0, np.inf)
    varied = finite & (np.ptp(np.where(finite[:, None], columns, 0.0), axis=1) > _CONSTANT)
    if varied.any():
        k[varied] = psislw(columns[varied])[1]
    return torch.from_numpy(k)


def _show(figures: Figures, arrays: Arrays) -> Shown:
    numbers = sorted(map(int, figures["bounds"]))
    bounds = [figures["bounds"][str(k)] for k in numbers]
    ends = [[bound[end] for end in ("value", "low", "high")] for bound in bounds]
    rows = [
        ("data with k-hat above 0.7", told(figures["pareto_k_above_0.7"], percent=True)),
        ("effective share of the draws", told(figures["ess_fraction"], percent=True)),
        ("nats from the ELBO to the best bound", told(figures["elbo_to_bound"])),
    ]
    return Shown(rows, [
        Histogram("Pareto k-hat", "Above 0.7 the guide misses part of the posterior.",
                  "k-hat of a datum", arrays["pareto_k"], mark=(RELIABLE_K, "0.7")),
        Intervals("Importance-weighted bound", "K = 1 is the ELBO. With K the bound rises to the "
                  "log evidence. Bars are 95 % intervals over images.",
                  "draws K", "bound [nats]", numbers, ends),
    ])  # fmt: skip


CHECK = Check(
    "Is the guide close to the exact posterior?",
    "Importance weights of the guide, for each datum by itself. Up to a k-hat of 0.7 weights can "
    "correct the guide's draws. Under objective=conditional the guide sees one view and the "
    "likelihood scores the other: the exact posterior then knows more than the guide can. A "
    "posterior of all views is judged in the model of all of them.",
    lambda data: importance_weights(data.heldout, seed=data.seed),
    _show,
)
