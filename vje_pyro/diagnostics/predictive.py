"""Does the model predict what was seen? Predictive checks of the angle and of the radius."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from pyro import poutine
from scipy.stats import kstest
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.diagnostics._programs import chunks, draw_latents, given, particles, seeded
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown
from vje_pyro.diagnostics.further_view import FurtherView
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Histogram, Plot, Ranks
from vje_pyro.distributions.moments import moments
from vje_pyro.errors import VJEError


def _quantile(x: Tensor, level: float) -> Tensor:
    # That of torch refuses more than 16 million values.
    return torch.from_numpy(np.asarray(np.quantile(x.numpy(), level, axis=-1)))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(-1),
    "spread": lambda x: x.std(-1),
    "q05": partial(_quantile, level=0.05),
    "q50": partial(_quantile, level=0.50),
    "q95": partial(_quantile, level=0.95),
}
"""Statistics of a whole data set, from ``(..., 2N)`` to ``(...)``; quantiles in the data's unit."""

_BINS = 10


@dataclass(frozen=True)
class Replicates:
    """A quantity as observed and as the model replicates it, datum by datum.

    Args:
        observed: ``(2N,)``.
        draws: From the predictive distribution of each datum, ``(S, 2N)``.
        images: Which image each datum is of, ``(2N,)``; the data of one image are not independent.
        unit: ``"degrees"``, or ``"embedding norm"``.
        seed: Of the ranks that ties are given.
    """

    observed: Tensor
    draws: Tensor
    images: Tensor
    unit: str
    seed: int = 0

    @cached_property
    def pit(self) -> Tensor:
        """Probability integral transform, the rank of each observation among its draws, ``(2N,)``.

        Randomised within ties and within a rank, so that under the true model it is uniform on
        (0, 1) exactly, for any number of draws (Czado, Gneiting & Held, Biometrics 2009).
        """
        below = (self.draws < self.observed).sum(0)
        ties = (self.draws == self.observed).sum(0)
        generator = torch.Generator().manual_seed(self.seed)
        uniform = torch.rand(len(below), generator=generator, dtype=torch.float64)
        return (below + uniform * (ties + 1)) / (len(self.draws) + 1)

    def uniformity(self) -> dict[str, float]:
        """Kolmogorov-Smirnov test of :attr:`pit`, for each order of the views by itself.

        An image's data depend on each other, so a test takes one of them: its first of each order.
        The p-value is twice the lesser of the two (Bonferroni).
        """
        tests = [kstest(half, "uniform") for half in self._one_per_image()]
        return {
            "ks_statistic": max(float(test.statistic) for test in tests),
            "p_value": min(1.0, 2 * min(float(test.pvalue) for test in tests)),
        }

    def _one_per_image(self) -> list[np.ndarray]:
        half = len(self.pit) // 2
        first = np.unique(self.images[:half].numpy(), return_index=True)[1]
        return [self.pit[:half].numpy()[first], self.pit[half:].numpy()[first]]

    def check(self, statistic: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """A statistic of the observed data set beside those of the S replicated ones.

        Returns:
            ``observed``; ``value``, ``low`` and ``high`` of the replicates (mean, central 95 %);
            ``p_value``, two-sided: how often a replicate is at least as extreme.
        """
        observed, replicated = statistic(self.observed).item(), statistic(self.draws)
        num = len(replicated) + 1
        above = (1 + int((replicated >= observed).sum())) / num
        below = (1 + int((replicated <= observed).sum())) / num
        low, high = np.quantile(replicated.numpy(), [0.025, 0.975]).tolist()
        return {
            "observed": observed,
            "value": replicated.mean().item(),
            "low": low,
            "high": high,
            "p_value": min(1.0, 2 * min(above, below)),
        }

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON: every statistic, and the PIT with its test and histogram."""
        histogram = torch.histc(self.pit, _BINS, 0, 1) / len(self.pit)
        return {
            "unit": self.unit,
            "num_data": len(self.observed),
            "num_images": len(self.images.unique()),
            "num_draws": len(self.draws),
            "statistics": {name: self.check(function) for name, function in STATISTICS.items()},
            "pit": self.uniformity() | {"histogram": histogram.tolist()},
        }


@dataclass(frozen=True)
class PredictiveCheck:
    """Predictive distribution of every datum beside the observation.

    Args:
        kind: ``"posterior"`` or ``"prior"``.
        angle: In degrees, between a direction and the predictive location of its datum, the
            normalised posterior mean.
        radius: In units of the embedding's norm; None where the model has no radius.
    """

    kind: str
    angle: Replicates
    radius: Replicates | None

    def summary(self) -> dict[str, Any]:
        """Figures of both quantities for a JSON."""
        radius = None if self.radius is None else self.radius.summary()
        return {"kind": self.kind, "angle": self.angle.summary(), "radius": radius}


def predictive_check(
    pairs: Pairs | FurtherView,
    num_samples: int = 400,
    seed: int = 0,
    kind: str = "posterior",
    temperature: float = 1.0,
) -> PredictiveCheck:
    r"""Draw the angle and the radius of every target from their predictive distribution.

    The angle of datum (i, j) is that between :math:`u_j` and the normalised posterior mean
    :math:`\hat m(s_i)`; its radius is :math:`r_j`. The posterior predictive draws
    :math:`z \sim q(z\mid s_i)`, then u and r from the model. The prior predictive draws
    :math:`z \sim p(z)`. One view predicts the other under every objective.

    Args:
        pairs: The data; or further views (:class:`~vje_pyro.diagnostics.FurtherView`), of which
            every image is one datum (N for 2N).
        num_samples: Draws S of each datum.
        seed: Of the draws.
        kind: ``"posterior"`` or ``"prior"``.
        temperature: Factor on all scales of the posterior predictive: of the deviation of z from
            its posterior mean, and of the directional scale.

    Raises:
        ValueError: If ``num_samples`` is below 2, ``kind`` unknown or ``temperature`` not positive.
        VJEError: If the model has no site ``direction``.

    Source: Gelman, Meng & Stern, "Posterior predictive assessment of model fitness" (1996).
    """
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}.")
    if kind not in ("posterior", "prior"):
        raise ValueError(f"kind must be 'posterior' or 'prior', got {kind!r}.")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    if isinstance(pairs, Pairs):
        pairs = pairs.one_view()
    center = predictive_location(pairs)
    angle, radius = [], []
    with seeded(seed):
        for size in chunks(num_samples, pairs.target.numel()):
            sites = predictive_sites(pairs, size, kind, temperature)
            angle.append(angles(sites["direction"], center))
            radius += [sites["radius"]] if "radius" in sites else []
    images, target = pairs.images, pairs.target
    observed = angles(normalize(target, dim=-1), center)
    return PredictiveCheck(
        kind,
        Replicates(observed, torch.cat(angle), images, "degrees", seed),
        Replicates(target.norm(dim=-1), torch.cat(radius), images, "embedding norm", seed)
        if radius
        else None,
    )


def predictive_location(pairs: Pairs | FurtherView) -> Tensor:
    """Where each target's direction is expected: the normalised posterior mean, ``(M, D)``."""
    return normalize(moments(pairs.posterior)[0], dim=-1)


@torch.no_grad()
def predictive_sites(
    pairs: Pairs | FurtherView, num_samples: int, kind: str = "posterior", temperature: float = 1.0
) -> dict[str, Tensor]:
    """Draws of every site of the model: ``z``, ``direction``, ``radius``, ``(S, M, *event)``.

    Where the posterior is that of all views, those of the views are ``(S, 2, N, *event)``.

    Args:
        pairs: The data, whose targets are not looked at.
        num_samples: Draws S, all at once.
        kind: Whether z is drawn from the ``"posterior"`` or from the ``"prior"``.
        temperature: As in :func:`predictive_check`.

    Raises:
        VJEError: If the model has no site ``direction``.
    """
    method, (posterior, scale, target) = pairs.method, pairs.arguments()
    model = method.model
    if kind == "posterior":
        latents = draw_latents(method.guide, (posterior, scale, target), num_samples)
        if temperature != 1:
            mean = moments(posterior)[0]
            latents = {name: mean + temperature * (z - mean) for name, z in latents.items()}
        model = given(model, latents)
    with particles(num_samples):
        trace = poutine.trace(model).get_trace(posterior, temperature * scale)
    names = [name for name in ("z", "direction", "radius") if name in trace.nodes]
    # Of one view: no dimension of views.
    sites = {name: trace.nodes[name]["value"].squeeze(1) for name in names}
    if "direction" not in sites:
        raise VJEError(
            f"the model of {type(method).__name__} has no site 'direction': the predictive checks "
            f"need one, as VJE has."
        )
    return sites


def angles(first: Tensor, second: Tensor) -> Tensor:
    """Angles between unit vectors ``(..., D)``, in degrees; exact for small angles too.

    Example:
        >>> angles(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(90.)
    """
    half_chord = (first - second).norm(dim=-1) / 2
    return torch.rad2deg(2 * torch.asin(half_chord.clamp(max=1)))


def _show(figures: Figures, arrays: Arrays) -> Shown:
    rows: list[tuple[str, str]] = []
    plots: list[Plot] = []
    for name in ("angle", "radius"):
        if (found := figures[name]) is None:
            continue
        unit, pit, mean = found["unit"], found["pit"], found["statistics"]["mean"]
        interval = f"[{mean['low']:.2f}, {mean['high']:.2f}] (p = {mean['p_value']:.2g})"
        value = f"{mean['observed']:.2f}; {mean['value']:.2f} {interval}"
        rows.append((f"mean {name} [{unit}]: observed; replicated [95 %]", value))
        counts, draws = np.array(pit["histogram"]) * found["num_data"], arrays.get(f"{name}/draws")
        plots += [
            Histogram(f"The {name}, observed and replicated",
                      "Filled: held-out views. Outline: drawn from the model.",
                      f"{name} [{unit}]", arrays[f"{name}/observed"],
                      outline=None if draws is None else draws.ravel()),
            Ranks(f"PIT of the {name}", "Level if the predictions are calibrated "
                  f"(Kolmogorov–Smirnov p = {pit['p_value']:.2g}). A full middle means predictions "
                  "wider than the data.", f"PIT of the {name}", counts),
        ]  # fmt: skip
    return Shown(rows, plots)


POSTERIOR = Check(
    "Does the model predict the other view?",
    "Posterior predictive draws of the target's angle to its predicted direction, and of its "
    "radius, on held-out images.",
    lambda data: predictive_check(data.heldout, seed=data.seed),
    _show,
)

PRIOR = Check(
    "What does the prior predict?",
    "The same with z drawn from the prior: what the model expects of a view before it sees any.",
    lambda data: predictive_check(data.heldout, seed=data.seed, kind="prior"),
    _show,
)
