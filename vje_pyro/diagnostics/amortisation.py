"""What amortisation costs: the guide's bound against that of posteriors fitted one by one."""

import math
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vje_pyro.diagnostics._images import mean_over_images
from vje_pyro.diagnostics._programs import chunks, log_density, seeded
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, told
from vje_pyro.diagnostics.importance import log_weights
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Histogram

# Elements of all particles of a group of images: the graph keeps some tens of copies.
_GROUP_ELEMENTS = 2**20


@dataclass(frozen=True)
class Amortisation:
    """ELBO of the guide and of a free diagonal Gaussian of each datum, in nats, for M data.

    Args:
        amortised: ELBO of the guide, ``(M,)``.
        optimised: ELBO of the Gaussian that was fitted to the datum alone, ``(M,)``, on draws
            that neither the fit nor the choice below has seen.
        error: Monte Carlo standard error of their difference, ``(M,)``.
        loc: Means of the fitted Gaussians, ``(M, D)``.
        scale: Their standard deviations, ``(M, D)``.
        kept: Where the fit was no better on new draws and the guide's moments stay, ``(M,)``.
        images: Which image each datum is of, ``(M,)``.
    """

    amortised: Tensor
    optimised: Tensor
    error: Tensor
    loc: Tensor
    scale: Tensor
    kept: Tensor
    images: Tensor

    @property
    def gap(self) -> Tensor:
        """Optimised less amortised ELBO, ``(M,)`` in nats.

        Not negative but for ``error``, unless the guide is richer than a diagonal Gaussian.
        """
        return self.optimised - self.amortised

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON, in nats, with intervals over images."""
        quantiles = self.gap.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=self.gap.dtype))
        return {
            "num_data": len(self.gap),
            "gap": mean_over_images(self.gap, self.images),
            "gap_quantiles_5_50_95": quantiles.tolist(),
            "gap_error_mean": self.error.mean().item(),
            "elbo_amortised": mean_over_images(self.amortised, self.images),
            "elbo_optimised": mean_over_images(self.optimised, self.images),
            "kept_fraction": self.kept.double().mean().item(),
        }


def amortisation_gap(
    pairs: Pairs,
    num_samples: int = 64,
    seed: int = 0,
    num_steps: int = 300,
    learning_rate: float = 0.05,
    num_evaluation_samples: int = 500,
) -> Amortisation:
    """Fit a diagonal Gaussian to every datum and compare its ELBO with the guide's.

    The fit starts from the guide's moments and takes Adam steps on the datum's ELBO over fixed
    draws, with a learning rate that falls to zero as a cosine. The scale of the directional factor
    stays the amortised one: it is part of the model, and only the posterior is optimised.

    Args:
        pairs: The data.
        num_samples: Draws of the fit, even: they are antithetic, and scaled to unit variance in
            every feature, so that few are enough. As many decide whether the fit is kept.
        seed: Of the draws.
        num_steps: Steps of the fit.
        learning_rate: Of Adam, in the guide's standard deviations for the mean and in log units
            for the scale.
        num_evaluation_samples: Fresh draws of the evaluation, the same for both ELBOs where the
            guide is a diagonal Gaussian.

    Raises:
        ValueError: If a number of samples is below 2 or, for the fit, odd.

    Source: Cremer et al., "Inference suboptimality in variational autoencoders" (arXiv 1801.03558).
    """
    if num_samples < 2 or num_samples % 2 or num_evaluation_samples < 2:
        raise ValueError(
            f"num_samples must be even and both numbers of samples at least 2, got {num_samples} "
            f"and {num_evaluation_samples}."
        )
    size = max(1, _GROUP_ELEMENTS // (num_samples * 2 * pairs.num_features))
    groups = []
    with seeded(seed):
        for images in torch.arange(len(pairs)).split(size):
            fit = _fit(pairs.subset(images), num_samples, num_steps, learning_rate)
            # All data of an image stay together: (data of it, images, ...).
            groups.append([x.unflatten(0, (-1, len(images))) for x in fit])
    loc, scale, kept = (torch.cat(part, 1).flatten(0, 1) for part in zip(*groups, strict=True))
    optimised, amortised = _evaluate(pairs, loc, scale, num_evaluation_samples, seed + 1)
    error = (optimised - amortised).std(0) / math.sqrt(num_evaluation_samples)
    means = amortised.mean(0), optimised.mean(0)
    return Amortisation(*means, error, loc, scale, kept, pairs.images)


def _fit(
    pairs: Pairs, num_samples: int, num_steps: int, learning_rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Means and scales of the fitted Gaussians, and where they are still the guide's."""
    loc, scale = pairs.moments
    # In the guide's own units, so that one learning rate serves all features.
    shift = torch.zeros_like(loc, requires_grad=True)
    log_ratio = torch.zeros_like(loc, requires_grad=True)
    optimizer = torch.optim.Adam([shift, log_ratio], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    noise = _antithetic(num_samples, loc)
    for _ in range(num_steps):
        optimizer.zero_grad()
        elbo = _elbo_draws(pairs, loc + scale * shift, scale * log_ratio.exp(), noise)
        (-elbo.mean(0).sum()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        new_loc, new_scale = loc + scale * shift, scale * log_ratio.exp()
        noise = _antithetic(num_samples, loc)
        change = _elbo_draws(pairs, new_loc, new_scale, noise) - _elbo_draws(
            pairs, loc, scale, noise
        )
        kept = ~(change.mean(0) > 0)  # not finite counts as worse
        new_loc = torch.where(kept[:, None], loc, new_loc)
        new_scale = torch.where(kept[:, None], scale, new_scale)
    return new_loc, new_scale, kept


def _antithetic(num_samples: int, like: Tensor) -> Tensor:
    """Standard normal draws ``(S, M, D)`` whose mean is 0 and whose variance is 1, exactly."""
    half = torch.randn(num_samples // 2, *like.shape)
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def _elbo_draws(pairs: Pairs, loc: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """Log joint less log q at draws of a diagonal Gaussian, ``(S, M)``: its mean is the ELBO."""
    q = Normal(loc, scale, validate_args=False)
    z = loc + scale * noise
    with pyro.validation_enabled(False):
        joint = log_density(pairs.method.model, pairs.arguments(), {"z": z})
    return joint - q.log_prob(z).sum(-1)


@torch.no_grad()
def _evaluate(
    pairs: Pairs, loc: Tensor, scale: Tensor, num_samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """ELBO draws ``(S, M)``, float64, of the fitted Gaussians and of the guide."""
    posterior: Any = pairs.posterior
    common = isinstance(posterior, Independent) and isinstance(posterior.base_dist, Normal)
    optimised, amortised = [], []
    with seeded(seed):
        for size in chunks(num_samples, loc.numel()):
            noise = torch.randn(size, *loc.shape)
            optimised.append(_elbo_draws(pairs, loc, scale, noise).double())
            if common:
                own = _elbo_draws(pairs, posterior.mean, posterior.stddev, noise)
                amortised.append(own.double())
    if not common:
        amortised.append(log_weights(pairs, num_samples, seed))
    return torch.cat(optimised), torch.cat(amortised)


def _show(figures: Figures, arrays: Arrays) -> Shown:
    names = {
        "elbo_amortised": "ELBO of the guide [nats]",
        "elbo_optimised": "ELBO of the fitted Gaussians [nats]",
        "gap": "gap [nats]",
    }
    gap = arrays["optimised"] - arrays["amortised"]
    plot = Histogram(
        "Gap by datum", "Nats that a datum gains by a fit of its own.", "gap [nats]", gap
    )
    return Shown([(name, told(figures[key])) for key, name in names.items()], [plot])


CHECK = Check(
    "What does amortisation cost?",
    "For each datum a Gaussian of its own is fitted to the same bound. It knows the target, which "
    "a guide of one view does not see. So the gap holds both what the network loses and what the "
    "target tells.",
    lambda data: amortisation_gap(data.heldout, seed=data.seed),
    _show,
    slow=True,
)
