"""Simulation-based calibration: draws from a posterior against the latents that made the data."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from vje_pyro.diagnostics._programs import log_density, seeded, site_log_probs
from vje_pyro.diagnostics._ranks import discoveries, rank_histogram, uniform_p_values
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, Verdict
from vje_pyro.diagnostics.nuts import run_nuts, starts
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Ranks
from vje_pyro.distributions._common import is_subdensity
from vje_pyro.errors import VJEError
from vje_pyro.inference import Evidence

_LEVEL = 0.01
_MIN_PER_BIN = 5
_MAX_ROUNDS = 20_000
_ROUNDING = 1e-6


@dataclass(frozen=True)
class SBC:
    """Where the latents that made L data lie among the draws of their posteriors.

    Under a right posterior the positions of every quantity are uniform. Too narrow a posterior
    fills the ends of their histogram, too wide a one the middle, a biased one leans to a side.

    Args:
        sampler: ``"nuts"`` or ``"guide"``.
        quantities: Names of the Q quantities: ``z[0]`` …, ``norm`` (of z), and the log density of
            each observed site, ``log direction`` and ``log radius``.
        positions: Share of the draws below the true value, ``(L, Q)`` in [0, 1]; made continuous
            at random within the step that the true value, and draws equal to it, take.
        num_draws: Draws of each posterior.
        num_bins: Bins of the histograms.
        r_hat_max: Largest split R-hat of NUTS, noisy below some tens of draws a chain; None for
            the guide.
        divergences: Divergent transitions of NUTS; None for the guide.
    """

    sampler: str
    quantities: tuple[str, ...]
    positions: Tensor
    num_draws: int
    num_bins: int
    r_hat_max: float | None = None
    divergences: int | None = None

    @property
    def histogram(self) -> Tensor:
        """How many positions lie in each of the equal bins, ``(num_bins, Q)``, int64."""
        return rank_histogram(self.positions, self.num_bins)

    @property
    def p_values(self) -> Tensor:
        """Of Pearson's chi-square test of uniformity of each quantity, ``(Q,)`` float64."""
        return uniform_p_values(self.histogram)

    @property
    def p_value(self) -> float:
        """The smallest p-value times the number of quantities (Bonferroni).

        It is valid however the quantities depend on each other.
        """
        return min(1.0, len(self.quantities) * self.p_values.min().item())

    @property
    def calibrated(self) -> bool:
        """Whether uniformity of all quantities is compatible with the positions, at 1 %."""
        return self.p_value >= _LEVEL

    @property
    def found(self) -> Tensor:
        """Quantities that are not uniform, bool ``(Q,)``: false discovery rate of 1 %."""
        return discoveries(self.p_values, _LEVEL)

    @property
    def verdict(self) -> Verdict:
        """Whether any quantity is not uniform, at 1 % (Bonferroni)."""
        if self.calibrated:
            return Verdict(False, "draws of the posterior surround the latents that made the data.")
        names = [name for name, wrong in zip(self.quantities, self.found, strict=True) if wrong]
        some = ", ".join(names[-4:])
        what = f"{len(names)} of {len(self.quantities)} quantities are not calibrated ({some})"
        if self.sampler == "guide":
            return Verdict(
                True,
                f"{what} on data of the model: the guide is wrong there, or they differ "
                f"from the embeddings that it was trained on (see aggregate_kl of latent).",
            )
        return Verdict(
            True,
            f"{what}: density, gradient or sampler of a law is wrong, or NUTS has not converged "
            f"(largest R-hat {self.r_hat_max:.2f}: above 1.1 warm up for longer).",
        )

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        return {
            "sampler": self.sampler,
            "num_simulations": len(self.positions),
            "num_draws": self.num_draws,
            "quantities": list(self.quantities),
            "histogram": self.histogram.T.tolist(),
            "p_values": self.p_values.tolist(),
            "p_value": self.p_value,
            "correction": "Bonferroni",
            "level": _LEVEL,
            "calibrated": self.calibrated,
            "r_hat_max": self.r_hat_max,
            "divergences": self.divergences,
        }


def simulation_based_calibration(
    pairs: Pairs,
    sampler: str = "nuts",
    num_samples: int = 100,
    seed: int = 0,
    num_simulations: int = 200,
    num_bins: int = 10,
    num_chains: int = 5,
    num_warmup: int = 150,
    thin: int = 3,
    max_tree_depth: int = 8,
) -> SBC:
    r"""Draw latents from the prior and data from the model, and rank them in their posteriors.

    Each simulation takes the directional scale of a real datum, draws :math:`z^* \sim p(z)` and
    :math:`u, r \sim p(u, r \mid z^*)`, and then draws from a posterior of z:

    - ``"nuts"``: of the model itself, by NUTS. If its positions are not uniform, density, gradient
      or sampler of a distribution are wrong, or NUTS has not converged (``r_hat_max`` far above
      1.1: warm up for longer).
    - ``"guide"``: of the guide, which reads the simulated embedding :math:`s' = r\,u`.

    Where the posterior is that of all views, all of them are simulated from one latent, and read.

    Training may score with a subdensity :math:`\tilde p(x \mid z) \le p(x \mid z)` of the law that
    the model generates from. A simulation is then kept with probability :math:`\tilde p / p`. Those
    that are kept follow :math:`p(z)\,\tilde p(x \mid z)`, whose posterior is the one that the
    method trains with: the test is exact. Where a method has no radius, the simulated embedding
    gets the method's ``reference_radius``.

    Args:
        pairs: The data, whose scales are used and whose embeddings are not.
        sampler: ``"nuts"`` or ``"guide"``.
        num_samples: Draws of each posterior, for NUTS a multiple of ``num_chains``.
        seed: Of everything random; both samplers see the same simulations for a seed.
        num_simulations: Simulations L, at least 5 a bin.
        num_bins: Bins of the histograms, at least 2.
        num_chains: Chains of NUTS for each simulation, all in one potential.
        num_warmup: Transitions of NUTS before the first draw.
        thin: NUTS keeps one draw of so many: neighbours depend on each other, ranks must not.
        max_tree_depth: Bounds a transition of NUTS to 2^depth − 1 gradients.

    Raises:
        ValueError: If the sampler is unknown or a number does not fit.
        VJEError: If a subdensity cannot be normalised.

    Source: Talts et al., "Validating Bayesian inference algorithms with simulation-based
    calibration" (arXiv 1804.06788); quantities that depend on the data, Modrák et al. (arXiv
    2211.02383).
    """
    if sampler not in ("nuts", "guide"):
        raise ValueError(f"sampler must be 'nuts' or 'guide', got {sampler!r}.")
    if num_bins < 2 or num_simulations < _MIN_PER_BIN * num_bins:
        raise ValueError(
            f"a chi-square test needs at least 2 bins and {_MIN_PER_BIN} simulations a bin, got "
            f"{num_simulations} simulations and {num_bins} bins."
        )
    if num_samples < 1 or (sampler == "nuts" and num_samples % num_chains):
        raise ValueError(
            f"num_samples must be positive and a multiple of num_chains, {num_chains}, got "
            f"{num_samples}."
        )
    pairs = pairs.double()
    method = pairs.method
    with seeded(seed):
        order = torch.randperm(pairs.num_data)
        truth, arguments = _simulate(pairs, order[torch.arange(num_simulations) % len(order)])
        _, scale, target = arguments
        uniform = torch.rand(num_simulations, 1, dtype=torch.float64)
        if sampler == "guide":
            draws = pairs.read(target, target).posterior.sample((num_samples,))
    diagnostics: dict[str, Any] = {}
    if sampler == "nuts":
        run = run_nuts(
            lambda z: log_density(method.model, arguments, {"z": z}),
            start=starts(target, scale, num_chains, seed),
            num_samples=num_samples // num_chains * thin,
            num_warmup=num_warmup,
            max_tree_depth=max_tree_depth,
            seed=seed,
        )
        draws = run.draws[:, thin - 1 :: thin].flatten(0, 1)
        diagnostics = {"r_hat_max": run.r_hat.max().item(), "divergences": run.divergences}
    positions, quantities = _positions(method, arguments, truth, draws, uniform)
    return SBC(sampler, quantities, positions, num_samples, num_bins, **diagnostics)


def normalized_method(method: nn.Module) -> nn.Module:
    """The method with normalised laws in place of subdensities, or itself if it has none.

    Every distribution that says of itself that it is a subdensity (``is_subdensity``) is made with
    ``normalized=True``. The copy is for scoring: to generate, both draw from the same law.

    Raises:
        VJEError: If a subdensity does not take ``normalized=True``.
    """
    names = [name for name in ("direction", "radius") if _is_subdensity(method, name)]
    if not names:
        return method
    twin = copy.deepcopy(method)
    for name in names:
        setattr(twin, name, partial(getattr(method, name), normalized=True))
        try:
            still = _is_subdensity(twin, name)
        except TypeError:
            still = True
        if still:
            raise VJEError(
                f"the {name} of the {type(method).__name__} is a subdensity that cannot be "
                f"normalised: it has no option normalized=True. Simulation-based calibration needs "
                f"a normalised model."
            )
    return twin


def _is_subdensity(method: Any, name: str) -> bool:
    """Whether a factor of the likelihood has a mass below one."""
    factor: Callable[..., TorchDistribution] | None = getattr(method, name)
    if factor is None:
        return False
    unit = torch.eye(3)[0]
    scale = {"scale": unit + 1} if name == "direction" else {}
    return is_subdensity(factor(loc=unit if scale else unit[0], **scale))


@torch.no_grad()
def _simulate(pairs: Pairs, data: Tensor) -> tuple[Tensor, Evidence]:
    """Latents from the prior, and embeddings from the model given these, with scales of the data.

    Returns:
        Latents ``(L, D)``; posterior and directional scale of the data, and new targets.

    Raises:
        VJEError: If almost no simulation is kept, or a subdensity is not one.
    """
    method, normalized = pairs.method, normalized_method(pairs.method)
    posterior, scale, old = pairs.evidence(data)
    target = torch.empty_like(old)
    truth = target.new_empty(old.shape[-2:])
    left = torch.arange(len(data))
    for _ in range(_MAX_ROUNDS):
        inferred = pairs.evidence(data[left])[:2]
        sites = poutine.trace(method.model).get_trace(*inferred, None).nodes
        z, radius = sites["z"]["value"], method.reference_radius
        if "radius" in sites:
            radius = sites["radius"]["value"][..., None]
        x = sites["direction"]["value"] * radius
        truth[left], target[..., left, :] = z, x
        if normalized is not method:
            left = left[~_kept(pairs, normalized, data[left], z, x)]
        if normalized is method or not len(left):
            return truth, Evidence(posterior, scale, target)
    raise VJEError(
        f"simulation-based calibration gave up: with scales of the directional factor of "
        f"{scale.mean().item():.3g} on average, the likelihood is a subdensity that lacks nearly "
        f"all of its mass. Use a normalised likelihood."
    )


def _kept(pairs: Pairs, normalized: Any, data: Tensor, z: Tensor, target: Tensor) -> Tensor:
    """Which simulations are not among the data that a subdensity loses, bool ``(L,)``."""
    method = pairs.method
    log_uniform = torch.rand(len(z), dtype=z.dtype).log()
    # The area share of the chord map is cheap. The normaliser is needed for few simulations.
    share = _log_area_share(method, z, target)
    kept = log_uniform < share
    if kept.any():
        arguments = pairs.evidence(data[kept])._replace(target=target[..., kept, :])
        latents = {"z": z[kept]}
        log_keep = log_density(method.model, arguments, latents) - log_density(
            normalized.model, arguments, latents
        )
        excess = (log_keep - share[kept]).max().item()
        if excess > _ROUNDING:
            raise VJEError(
                f"the likelihood of the {type(method).__name__} calls itself a subdensity, but is "
                f"{excess:.3g} nats above its normalised law, less what the chord map does to "
                f"areas. Use the normalised law."
            )
        kept[kept.clone()] = log_uniform[kept] < log_keep
    return kept


def _log_area_share(method: Any, z: Tensor, target: Tensor) -> Tensor:
    """Log of what the chord map makes of an area at the target, at most 0, ``(L,)``."""
    if not _is_subdensity(method, "direction"):
        return torch.zeros_like(z[:, 0])
    cosine = torch.cosine_similarity(z, target, dim=-1)
    share = 0.5 * (z.shape[-1] - 3) * torch.log((1 + cosine).clamp(min=0) / 2)
    return torch.atleast_2d(share).sum(0)


@torch.no_grad()
def _positions(
    method: Any, arguments: tuple[Any, ...], truth: Tensor, draws: Tensor, uniform: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """Share of the draws ``(S, L, D)`` below the truth ``(L, D)``, ``(L, Q)``, and names."""
    true, names = _quantities(method, arguments, truth)
    below, ties = torch.zeros_like(true), torch.zeros_like(true)
    for draw in draws:
        value = _quantities(method, arguments, draw)[0]
        below += value < true
        ties += value == true
    # One of S + 1 equally likely ranks, spread over its share of [0, 1]; ties share theirs.
    return (below + uniform * (ties + 1)) / (len(draws) + 1), names


def _quantities(
    method: Any, arguments: tuple[Any, ...], z: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """What is ranked, ``(L, Q)``, and its names."""
    observed = site_log_probs(method.model, arguments, {"z": z})
    del observed["z"]
    names = [f"z[{d}]" for d in range(z.shape[-1])]
    names += ["norm", *(f"log {name}" for name in observed)]
    columns = torch.stack([z.norm(dim=-1), *(x.sum(-2) for x in observed.values())], dim=-1)
    return torch.cat([z, columns], dim=-1), tuple(names)


def _show(figures: Figures, arrays: Arrays) -> Shown:
    counts = dict(zip(figures["quantities"], figures["histogram"], strict=True))
    found = "compatible with calibration" if figures["calibrated"] else "not calibrated"
    found += f" (p = {figures['p_value']:.2g}, Bonferroni over {len(counts)} quantities)"
    rows = [
        ("verdict at 1 %", found),
        ("simulations, draws of each", f"{figures['num_simulations']}, {figures['num_draws']}"),
    ]
    if (r_hat := figures["r_hat_max"]) is not None:
        rows.append(("largest R-hat, divergences", f"{r_hat:.2f}, {figures['divergences']}"))
    coordinates = [count for name, count in counts.items() if name.startswith("z[")]
    pooled = Ranks(
        "All coordinates of z",
        "Pooled, for the shape only: coordinates depend on each other, so the band is too narrow. "
        "Full ends mean that the posterior is too narrow, a full middle that it is too wide.",
        "rank of a coordinate of z",
        np.sum(coordinates, axis=0),
    )
    others = [
        Ranks(f"Rank of {name}", "Each count is in the band with 99 %.", f"rank of {name}", count)
        for name, count in counts.items()
        if not name.startswith("z[")
    ]
    return Shown(rows, [pooled, *others])


GUIDE = Check(
    "Is the guide calibrated on data that the model generates?",
    "Latents are drawn from the prior and data from the model. The guide reads each simulated "
    "embedding as if it were a view: under the exact posterior ranks are uniform. The guide was "
    "trained on real embeddings, so this also shows how unlike them the generated data are.",
    lambda data: simulation_based_calibration(data.heldout, "guide", seed=data.seed),
    _show,
)

NUTS = Check(
    "Do model and sampler belong together?",
    "Latents are drawn from the prior and data from the model. NUTS samples the exact posterior: "
    "the ranks must be uniform, or a density, its gradient or its sampler is wrong.",
    lambda data: simulation_based_calibration(
        data.heldout, "nuts", num_samples=40, num_simulations=100, num_bins=5, num_chains=2,
        num_warmup=500, thin=5, max_tree_depth=7, seed=data.seed,
    ),
    _show,
    slow=True,
)  # fmt: skip
