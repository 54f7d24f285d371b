r"""Which likelihood predicts held-out targets best? All on the same frozen embeddings.

For every candidate the inference network is fitted anew to the training pairs, and the held-out
pairs are scored by the log predictive density of target j given source i, in nats,

.. math:: \log p(u_j, r_j \mid s_i) = \log \tfrac1S \sum_s p(u_j, r_j \mid z_s),
   \qquad z_s \sim q(z \mid s_i).

The fit maximises the expected log-likelihood, without a KL, and the unit of the directional scale
is fitted with the network: so the law that made the data has the highest expected score. Under a
bound with its KL, or in a fixed unit, the prior keeps the posterior wide, and a law that did not
make the data can predict better.

Two figures estimate the errors of a fit: half of what the training pairs score better than the
held-out ones (as in Akaike's criterion), and what the second half of the steps gained. A difference
is *conclusive* only if it is larger than both together, of either model.

The guide sees the source only, so the pointwise densities are held out as they are: PSIS-LOO does
not apply. ``arviz.compare`` gives ranks and stacking weights.

Only densities are compared. How much mass a subdensity lacks depends on the scale, so its score has
no order; its normalised twin (``normalized=True``) is compared instead.

Source: held-out log predictive density and its standard error, Vehtari, Gelman & Gabry (arXiv
1507.04544); the protocol on frozen embeddings is this project's.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from vje_pyro.building import build
from vje_pyro.diagnostics import arviz_adapter
from vje_pyro.diagnostics._images import per_image
from vje_pyro.diagnostics._programs import chunks, draw_latents, given, seeded
from vje_pyro.diagnostics.check import Arrays, Check, Data, Figures, Shown, told
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.distributions import (
    PowerSpherical,
    ProjectedNormal,
    ProjectedStudentT,
    SphericalNormal,
    SphericalStudentT,
    VonMisesFisher,
)
from vje_pyro.distributions._common import is_subdensity
from vje_pyro.errors import VJEError
from vje_pyro.inference import SymmetricELBO
from vje_pyro.statistics import bootstrap_mean


class Likelihood(NamedTuple):
    """A candidate: both factors, as a method takes them.

    Args:
        direction: Class or partial of the directional factor, called with ``loc`` and ``scale``.
        radius: Class or partial of the radial factor, called with ``loc``; None leaves it out.
    """

    direction: Callable[..., Any]
    radius: Callable[..., Any] | None


@dataclass(frozen=True)
class Scores:
    """Held-out log predictive density of every target under one model.

    Args:
        factors: By observed site (``direction``, ``radius``), each scored by itself, ``(2N,)`` in
            nats, float64.
        joint: Of all sites together, ``(2N,)``.
        images: Which image each datum is of, ``(2N,)``.
        digest: Of the data that were scored: sources and targets.
        subdensities: Names of the sites whose law has a mass below one.
    """

    factors: dict[str, Tensor]
    joint: Tensor
    images: Tensor
    digest: str
    subdensities: tuple[str, ...]

    def per_image(self, site: str | None = None) -> Tensor:
        """Mean over the data of each image, ``(N,)``, of a site or of all together."""
        return per_image(self.joint if site is None else self.factors[site], self.images)


@dataclass(frozen=True)
class Comparison:
    """Models by their held-out log predictive density, best first.

    Args:
        scores: By name of the model.
        table: By name: ``rank`` (from 0) and stacking ``weight``, of ``arviz.compare``.
        fit_errors: By name, nats per target that the errors of the fit may cost, where known.
    """

    scores: dict[str, Scores]
    table: dict[str, dict[str, float]]
    fit_errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Name of the model with the highest joint density."""
        return next(iter(self.scores))

    def difference(self, name: str, site: str | None = None) -> dict[str, Any]:
        """Mean density less that of the best model, paired by image, as a figure in nats."""
        best = self.scores[self.best].per_image(site)
        return asdict(bootstrap_mean(self.scores[name].per_image(site) - best))

    def is_conclusive(self, name: str) -> bool:
        """Whether the data, and not the errors of the fits, say that another model is better.

        The interval of the difference lies below zero by more than the ``fit_errors`` of either.
        For the best model: whether this holds of every other.
        """
        if name == self.best:
            return all(self.is_conclusive(other) for other in self.scores if other != name)
        fit_error = max(self.fit_errors.get(n, 0.0) for n in (name, self.best))
        return self.difference(name)["high"] + fit_error < 0

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON, in nats per target: means over images with their standard errors.

        ``conclusive`` says whether the order of a model and the best can be trusted.
        """
        return {name: self._row(name) for name in self.scores}

    def _row(self, name: str) -> dict[str, Any]:
        sites: dict[str, str | None] = {"joint": None} | {s: s for s in self.scores[name].factors}
        return {
            **self.table[name],
            "conclusive": self.is_conclusive(name),
            "fit_error": self.fit_errors.get(name),
            **{
                label: {
                    **asdict(bootstrap_mean(values := self.scores[name].per_image(site))),
                    "se": (values.std() / len(values) ** 0.5).item(),
                    "difference": self.difference(name, site),
                }
                for label, site in sites.items()
            },
        }


def compare_likelihoods(
    train: Pairs,
    heldout: Pairs,
    candidates: Mapping[str, Likelihood],
    guide: Callable[[int], nn.Module],
    *,
    num_samples: int = 100,
    num_steps: int = 300,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Comparison:
    """Fit the inference network under each likelihood, and compare on held-out targets.

    Args:
        train: Pairs of training images.
        heldout: Pairs of other images, of the same method.
        candidates: Likelihoods by name, at least two.
        guide: Called with D, gives a fresh inference network; the run's own guide, as it was
            configured.
        num_samples: Draws S of z for each held-out datum.
        num_steps: Steps of AdamW.
        batch_size: Images a step, each with both orders of its views.
        learning_rate: Of AdamW; it falls to zero along a half cosine.
        seed: Of the weights, batches and draws: the same for each candidate.

    Raises:
        ValueError: If there are fewer than two candidates, or one of them is a subdensity or has
            other factors than the others.
        VJEError: If the method has no likelihood to exchange.
    """
    if len(candidates) < 2:
        raise ValueError(f"a comparison needs at least two likelihoods, got {list(candidates)}.")

    def scored(pairs: Pairs, method: nn.Module) -> Scores:
        return heldout_scores(replace(pairs, method=method), num_samples, seed)

    options = {"batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    scores, fit_errors = {}, {}
    for name, likelihood in candidates.items():
        _refuse_subdensity(name, _subdensities(_with(train, likelihood)))
        fit = partial(refit, train, guide=guide, **options)  # type: ignore[arg-type]
        steps = num_steps, max(1, num_steps // 2)
        method, half = (fit(likelihood=likelihood, num_steps=number) for number in steps)
        scores[name] = scored(heldout, method)
        value = scores[name].joint.mean()
        optimism = scored(train.subset(slice(len(heldout))), method).joint.mean() - value
        gain = value - scored(heldout, half).joint.mean()
        fit_errors[name] = (optimism.clamp(min=0) / 2 + gain.clamp(min=0)).item()
    return replace(compare_scores(scores), fit_errors=fit_errors)


def compare_scores(scores: Mapping[str, Scores]) -> Comparison:
    """Compare models that were scored on the same targets.

    Raises:
        ValueError: If there are fewer than two, one of them is a subdensity, they score other
            factors, or they were scored on different data.
    """
    if len(scores) < 2:
        raise ValueError(f"a comparison needs at least two models, got {list(scores)}.")
    first_name, first = next(iter(scores.items()))
    for name, other in scores.items():
        _refuse_subdensity(name, other.subdensities)
        if other.digest != first.digest:
            raise ValueError(
                f"{name!r} and {first_name!r} were scored on different data: score both on the "
                f"same pairs of the same embeddings."
            )
        if other.factors.keys() != first.factors.keys():
            raise ValueError(
                f"{name!r} is a density of {sorted(other.factors)}, {first_name!r} of "
                f"{sorted(first.factors)}: densities of different quantities have no order. Give "
                f"both the same factors."
            )
    table = arviz_adapter.compare({n: s.per_image().numpy() for n, s in scores.items()})
    rows = {n: {"rank": row["rank"], "weight": row["weight"]} for n, row in table.items()}
    return Comparison({name: scores[name] for name in table}, rows)


@torch.no_grad()
def heldout_scores(pairs: Pairs, num_samples: int = 100, seed: int = 0) -> Scores:
    """Log predictive density of every target given its source, as this module's text says.

    Args:
        pairs: Pairs of images that the method was not fitted on.
        num_samples: Draws S of z for each datum. In expectation the score is a lower bound that
            rises with S, slowly where the draws of a datum differ by many nats.
        seed: Of the draws.

    Raises:
        ValueError: If ``num_samples`` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    pairs = pairs.one_view()
    arguments = pairs.arguments()
    parts: list[dict[str, Tensor]] = []
    with seeded(seed):
        for size in chunks(num_samples, pairs.embeddings.numel()):
            latents = draw_latents(pairs.method.guide, arguments, size)
            sites = _observed_sites(pairs.method, arguments, latents)
            log_probs = {n: s["fn"].log_prob(s["value"]).sum(-2).double() for n, s in sites.items()}
            log_probs["joint"] = torch.stack(list(log_probs.values())).sum(0)
            # Sums over the draws of this chunk: only these are kept.
            parts.append({n: x.logsumexp(0) for n, x in log_probs.items()})
    log_num = torch.tensor(float(num_samples), dtype=torch.float64).log()
    means = {n: torch.stack([part[n] for part in parts]).logsumexp(0) - log_num for n in parts[0]}
    joint = means.pop("joint")
    digest = hashlib.sha256(pairs.embeddings.contiguous().numpy().tobytes()).hexdigest()
    return Scores(means, joint, pairs.images, digest, _subdensities(pairs))


def refit(
    train: Pairs,
    likelihood: Likelihood,
    guide: Callable[[int], nn.Module],
    *,
    num_steps: int = 300,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> nn.Module:
    """The method with another likelihood and a fresh guide, fitted to frozen embeddings.

    Arguments and errors are those of :func:`compare_likelihoods`.
    """
    if num_steps < 1 or batch_size < 2:
        raise ValueError(
            f"num_steps must be at least 1 and batch_size 2, got {num_steps} and {batch_size}."
        )
    method = _with(train, likelihood).method
    method.elbo = SymmetricELBO(beta=0.0, kl=method.elbo.kl)
    batch_size = min(batch_size, len(train))
    with seeded(seed), torch.enable_grad(), pyro.validation_enabled(False):
        method.inference = guide(train.num_features)
        method.inference.train()
        log_unit = torch.tensor(float(method.reference_radius)).log().requires_grad_()
        unit = {"params": [log_unit], "lr": 10 * learning_rate, "weight_decay": 0.0}
        weights = {"params": method.inference.parameters()}
        optimizer = torch.optim.AdamW([weights, unit], lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for _ in range(num_steps):
            batch = torch.randperm(len(train))[:batch_size]
            source = train.embeddings[:, batch]
            method.reference_radius = log_unit.exp()
            arguments = (*method.infer(source.flatten(0, 1)), source.flip(0).flatten(0, 1))
            loss = method.elbo.differentiable_loss(method.model, method.guide, *arguments)
            optimizer.zero_grad()
            (loss / train.num_features).backward()
            optimizer.step()
            schedule.step()
    method.reference_radius = log_unit.exp().item()
    return method.eval().requires_grad_(False)


def _with(pairs: Pairs, likelihood: Likelihood) -> Pairs:
    """The same data with a method of another likelihood."""
    if pairs.method.direction is None:
        raise VJEError(
            f"{type(pairs.method).__name__} has no law of the direction to exchange: likelihoods "
            f"are compared for methods such as VJE."
        )
    method = copy.deepcopy(pairs.method)
    method.direction, method.radius = likelihood.direction, likelihood.radius
    return replace(pairs, method=method)


def _observed_sites(method: Any, arguments: tuple, latents: dict[str, Tensor]) -> dict[str, Any]:
    trace = poutine.trace(given(method.model, latents)).get_trace(*arguments)
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and site["is_observed"] and name not in latents
    }


@torch.no_grad()
def _subdensities(pairs: Pairs) -> tuple[str, ...]:
    """Observed sites whose law lacks mass."""
    one = pairs.subset(slice(1))
    with seeded(0):
        latents = draw_latents(one.method.guide, one.arguments(), 1)
        sites = _observed_sites(one.method, one.arguments(), latents)
    return tuple(name for name, site in sites.items() if is_subdensity(site["fn"]))


def _refuse_subdensity(name: str, sites: tuple[str, ...]) -> None:
    if sites:
        raise ValueError(
            f"the {' and '.join(sites)} of {name!r} is a subdensity, whose score is no log "
            f"density: it cannot be compared, not even with another one, as the mass that it lacks "
            f"depends on its scale. Compare its normalised twin (normalized=True)."
        )


DIRECTIONS: dict[str, Callable[..., Any]] = {
    "SphericalStudentT": partial(SphericalStudentT, df=1.0, normalized=True),
    "SphericalNormal": partial(SphericalNormal, normalized=True),
    "ProjectedStudentT": partial(ProjectedStudentT, df=1.0),
    "ProjectedNormal": ProjectedNormal,
    "VonMisesFisher": VonMisesFisher,
    "PowerSpherical": PowerSpherical,
}
"""Every direction that is a density."""


def normalized(factor: Callable[..., Any], **arguments: Tensor) -> Callable[..., Any]:
    """A likelihood factor, or its normalised twin where it is a subdensity."""
    return partial(factor, normalized=True) if is_subdensity(factor(**arguments)) else factor


def _measure(data: Data) -> Comparison:
    """The run's radius with every direction."""
    radius = data.heldout.method.radius
    if radius is not None:
        radius = normalized(radius, loc=torch.ones(()))
    candidates = {name: Likelihood(law, radius) for name, law in DIRECTIONS.items()}
    guide = build(data.config["method"]["guide"])
    return compare_likelihoods(data.train, data.heldout, candidates, guide, seed=data.seed)


def _show(figures: Figures, arrays: Arrays) -> Shown:
    rows: list[tuple[str, str]] = []
    for name, model in figures.items():
        if isinstance(model, dict) and "joint" in model:
            joint = model["joint"]
            value = f"{told(joint)} nats; stacking weight {model['weight']:.2f}"
            if rows:
                value += f"; {told(joint['difference'])} from the best"
                # Files of older versions do not say it.
                value += "" if model.get("conclusive", True) else ", not conclusive"
            rows.append((name, value))
    return Shown(rows)


CHECK = Check(
    "Which likelihood predicts best?",
    "Log predictive density of held-out targets on this run's embeddings. The inference network is "
    "fitted anew under each likelihood. All are normalised: a subdensity cannot be compared with a "
    "density. A difference is not conclusive if its interval holds zero or if the errors of the "
    "fit may have decided.",
    _measure,
    _show,
    slow=True,
)
