"""The exact posterior of a few data, by NUTS, against the guide."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from vje_pyro.diagnostics._programs import log_density, seeded
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Agreement
from vje_pyro.distributions.moments import moments


@dataclass(frozen=True)
class NutsRun:
    """Draws of the latents of N data, which are sampled together.

    Args:
        draws: ``(C, S, N, D)``: chains, draws, data, features; float64.
        divergences: Divergent transitions, of S.
        seconds: Wall time, warm-up included.
    """

    draws: Tensor
    divergences: int
    seconds: float

    @property
    def r_hat(self) -> Tensor:
        """Split R-hat of every feature of every datum, ``(N, D)``: near 1 where chains agree."""
        return split_gelman_rubin(self.draws, chain_dim=0, sample_dim=1)

    @property
    def ess(self) -> Tensor:
        """Effective number of the C × S draws for the mean, ``(N, D)``.

        At most CS log₁₀ CS, as in Stan: of draws that alternate, the estimate can be anything.
        """
        size = effective_sample_size(self.draws, chain_dim=0, sample_dim=1)
        num_draws = self.draws.shape[0] * self.draws.shape[1]
        most = num_draws * math.log10(num_draws)
        return torch.where(size > 0, size, most).clamp(max=most)


@dataclass(frozen=True)
class NutsComparison:
    """Marginals of the guide and of the exact posterior, of n data and D features each.

    Args:
        run: The draws and how well they mix.
        mean: Of the exact posterior, ``(n, D)``.
        scale: Its standard deviations, ``(n, D)``.
        guide_mean: The guide's mean, ``(n, D)``.
        guide_scale: Its standard deviations, ``(n, D)``.
        draws: Of the guide, as many as of NUTS, ``(C S, n, D)``.
        joint: Whether the posterior is that of all views.
    """

    run: NutsRun
    mean: Tensor
    scale: Tensor
    guide_mean: Tensor
    guide_scale: Tensor
    draws: Tensor
    joint: bool

    @property
    def difference(self) -> Tensor:
        """Guide's mean less the exact one, in exact standard deviations, ``(n, D)``."""
        return (self.guide_mean - self.mean) / self.scale

    @property
    def ratio(self) -> Tensor:
        """Guide's standard deviation over the exact one, ``(n, D)``: below 1 it is too sure."""
        return self.guide_scale / self.scale

    @property
    def overlap(self) -> Tensor:
        r"""Bhattacharyya coefficient of Gaussians with both moments, ``(n, D)`` in [0, 1].

        :math:`\int\sqrt{p q}`: 1 where mean and scale agree, 0 where the two have nothing in
        common. Source: Bhattacharyya (1943).
        """
        variance = self.scale.square() + self.guide_scale.square()
        factor = (2 * self.scale * self.guide_scale / variance).sqrt()
        return factor * (-(self.guide_mean - self.mean).square() / (4 * variance)).exp()

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON. Quantiles are over data and features; means are of each datum."""
        return {
            "num_data": len(self.mean),
            "num_chains": len(self.run.draws),
            "num_draws": self.run.draws.shape[1],
            "abs_difference": self.difference.abs().mean(1).tolist(),
            "abs_difference_quantiles_50_95": _quantiles(self.difference.abs(), 0.5, 0.95),
            "ratio": self.ratio.log().mean(1).exp().tolist(),
            "ratio_quantiles_5_50_95": _quantiles(self.ratio, 0.05, 0.5, 0.95),
            "overlap": self.overlap.mean(1).tolist(),
            "overlap_quantiles_5_50": _quantiles(self.overlap, 0.05, 0.5),
            "r_hat_max": self.run.r_hat.max().item(),
            "ess_min": self.run.ess.min().item(),
            "divergences": self.run.divergences,
            "seconds": self.run.seconds,
        }


def compare_with_nuts(
    pairs: Pairs,
    num_samples: int = 100,
    seed: int = 0,
    num_data: int = 8,
    num_chains: int = 8,
    num_warmup: int = 200,
    max_tree_depth: int = 8,
) -> NutsComparison:
    r"""Sample :math:`p(z \mid u_j, r_j;\ \sigma(s_i))` of the first images and compare the guide.

    Where the posterior is that of one view, the source is view 0 and the target view 1. The guide
    reads the source only. A posterior of all views is compared with the exact one given all views.

    Args:
        pairs: The data, of which the first ``num_data`` images are taken.
        num_samples: Draws S of each chain, at least 4.
        seed: Of everything random.
        num_data: Images n, or as many as there are.
        num_chains: Chains C.
        num_warmup: Transitions before the first draw, in which step size and scales adapt.
        max_tree_depth: Bounds a transition to 2^depth − 1 gradients.

    Raises:
        ValueError: If a number is too small.
    """
    if num_data < 1:
        raise ValueError(f"num_data must be positive, got {num_data}.")
    few = pairs.subset(slice(num_data)).double()
    posterior, scale, target = evidence = few.evidence(torch.arange(len(few)))
    run = run_nuts(
        lambda z: log_density(few.method.model, evidence, {"z": z}),
        start=starts(target, scale, num_chains, seed),
        num_samples=num_samples,
        num_warmup=num_warmup,
        max_tree_depth=max_tree_depth,
        seed=seed,
    )
    exact = run.draws.flatten(0, 1)
    with seeded(seed), torch.no_grad():
        draws = posterior.sample((len(exact),))
    own = moments(posterior)
    return NutsComparison(run, exact.mean(0), exact.std(0), *own, draws, bool(pairs.joint))


def run_nuts(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    num_samples: int,
    num_warmup: int,
    max_tree_depth: int = 8,
    seed: int = 0,
) -> NutsRun:
    """Sample a latent of every datum, chains and data all in one potential.

    Data and chains are independent, so they are sampled as one long vector, whose gradient costs
    little more than that of one datum. They share step size and length of the trajectories.

    Args:
        log_density: From latents ``(C, N, D)`` to log densities ``(C, N)``, up to constants.
        start: Where the chains start, ``(C, N, D)`` float64.
        num_samples: Draws S, at least 4.
        num_warmup: Transitions before the first draw.
        max_tree_depth: Bounds a transition to 2^depth − 1 gradients.
        seed: Of everything random.

    Raises:
        ValueError: If ``num_samples`` is below 4, ``num_warmup`` or the depth below 1, or there
            are no chains.

    Source: Hoffman & Gelman, "The No-U-Turn Sampler" (arXiv 1111.4246), as Pyro implements it.
    """
    if num_samples < 4 or num_warmup < 1 or max_tree_depth < 1 or len(start) < 1:
        raise ValueError(
            f"NUTS needs num_samples of at least 4 and at least 1 chain, warm-up step and tree "
            f"depth, got {num_samples} samples, {len(start)} chains, {num_warmup} warm-up steps "
            f"and depth {max_tree_depth}."
        )

    def potential(params: dict[str, Tensor]) -> Tensor:
        return -log_density(params["z"]).sum()

    began = time.perf_counter()
    kernel = NUTS(potential_fn=potential, max_tree_depth=max_tree_depth)
    with seeded(seed):
        mcmc = MCMC(
            kernel,
            num_samples=num_samples,
            warmup_steps=num_warmup,
            initial_params={"z": start},
            disable_progbar=True,
        )
        mcmc.run()
    return NutsRun(
        draws=mcmc.get_samples()["z"].transpose(0, 1),
        divergences=len(mcmc.diagnostics()["divergences"]["chain 0"]),
        seconds=time.perf_counter() - began,
    )


def starts(target: Tensor, scale: Tensor, num_chains: int, seed: int) -> Tensor:
    """Points ``(C, N, D)`` about the target embeddings, which the guide has no part in."""
    if target.dim() == 3:  # the views of each datum
        target, scale = target.mean(0), scale.mean(0)
    with seeded(seed):
        return target + scale * torch.randn(num_chains, *target.shape, dtype=target.dtype)


def _quantiles(values: Tensor, *levels: float) -> list[float]:
    return values.quantile(torch.tensor(levels, dtype=values.dtype)).tolist()


def _show(figures: Figures, arrays: Arrays) -> Shown:
    def numbers(key: str) -> str:
        return ", ".join(f"{value:.2f}" for value in figures[key])

    sampled = f"{figures['num_data']} data, {figures['num_chains']} chains, {figures['num_draws']}"
    rows = [
        ("sampled", f"{sampled} draws each"),
        ("largest R-hat, divergences", f"{figures['r_hat_max']:.3f}, {figures['divergences']}"),
        ("|difference of means| in exact standard deviations, median and 95 %",
         numbers("abs_difference_quantiles_50_95")),
        ("guide's scale over the exact one, 5 %, median, 95 %", numbers("ratio_quantiles_5_50_95")),
        ("overlap of the marginals, 5 % and median", numbers("overlap_quantiles_5_50")),
    ]  # fmt: skip
    plots = [
        Agreement(f"{what.capitalize()}s", caption, f"{what} by NUTS", f"{what} of the guide",
                  arrays[what].ravel(), arrays[f"guide_{what}"].ravel())
        for what, caption in (
            ("mean", "On the diagonal both agree."),
            ("scale", "Below the diagonal the guide is too narrow."),
        )
    ]  # fmt: skip
    return Shown(rows, plots)


CHECK = Check(
    "What does NUTS say of the guide?",
    "The exact posterior of a few data by NUTS beside the guide. A point is a feature of a datum.",
    lambda data: data.once(compare_with_nuts),
    _show,
    slow=True,
)
