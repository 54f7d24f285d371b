"""Which diagnostic catches which fault? Planted faults in a model whose posterior is known.

    python -m studies.faults

A linear Gaussian model with one latent and two views has its posterior in closed form, and the
guide is it. Data are made by the true model; then model, guide or data are made wrong in one way,
and the checks of ``vje diagnose`` run as they are. Where the model is wrong, the guide is the exact
posterior of the wrong model, as training would make it. Then the right model is checked on many
data sets, which gives the rate of false alarms. Writes ``docs/results/diagnostics/faults.json``, of
which ``make results`` makes the table in docs/explanation/diagnostics.md.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.diagnostics import (
    Pairs,
    block_importance,
    classifier_test,
    compare_with_nuts,
    feature_check,
    importance_weights,
    latent_usage,
    simulation_based_calibration,
)
from vje_pyro.diagnostics.c2st import C2ST, accuracies
from vje_pyro.encoders import Identity
from vje_pyro.inference import EmbeddingModel, Joint
from vje_pyro.method import Inferred
from vje_pyro.provenance import origin

FILE = Path(__file__).resolve().parents[1] / "docs" / "results" / "diagnostics" / "faults.json"


class LinearGaussian(EmbeddingModel):
    """z ~ N(0, t²), each view x given z ~ N(z, v) in every feature; the guide is the posterior.

    Args:
        noise: √v of the likelihood, ``(D,)``.
        prior_scale: t.
        uses_latent: Whether the likelihood has z as its mean, or 0 and as much variance instead.
        sharpness: The guide's standard deviations from one view are divided by this, ``(D,)``.
    """

    noise: Tensor
    sharpness: Tensor

    def __init__(
        self,
        noise: Tensor,
        prior_scale: float = 1.0,
        uses_latent: bool = True,
        sharpness: Tensor | float = 1.0,
    ) -> None:
        super().__init__(Identity(len(noise)), Joint(), embedding_norm=False)
        self.prior_scale, self.uses_latent = prior_scale, uses_latent
        self.register_buffer("noise", noise)
        self.register_buffer("sharpness", sharpness * torch.ones_like(noise))

    def prior_distribution(self) -> TorchDistribution:
        """``p(z)``."""
        return Normal(torch.zeros_like(self.noise), self.prior_scale).to_event(1)

    def infer(self, source: Tensor) -> Inferred:
        """Posterior from one view, and the scale of the likelihood."""
        variance, prior_variance = self.noise.square(), self.prior_scale**2
        information = prior_variance / (prior_variance + variance) * self.uses_latent
        scale = self.prior_scale * (1 - information).sqrt() / self.sharpness
        posterior = Independent(Normal(information * source, scale.expand_as(source)), 1)
        if not self.uses_latent:
            variance = variance + prior_variance
        return Inferred(posterior, variance.sqrt().expand_as(source))

    def generate(
        self, posterior: TorchDistribution, scale: Tensor, target: Tensor | None = None
    ) -> None:
        """The Pyro model of N data, with one view or several."""
        with pyro.plate("data", scale.shape[-2], dim=-1):
            z = pyro.sample("z", self.prior_distribution())
            law = Normal(z * self.uses_latent, scale).to_event(1)
            if scale.dim() == 2:
                pyro.sample("direction", law, obs=target)
                return
            with pyro.plate("view", len(scale), dim=-2):
                pyro.sample("direction", law, obs=target)

    def approximate(
        self, posterior: TorchDistribution, scale: Tensor, target: Tensor | None = None
    ) -> Tensor:
        """The Pyro guide."""
        with pyro.plate("data", scale.shape[-2], dim=-1):
            return pyro.sample("z", posterior)


def true_noise(num_features: int) -> Tensor:
    """√v of the true model: variances from ¼ to 4 times the prior's."""
    return torch.linspace(-math.log(2), math.log(2), num_features).exp()


def true_data(num_images: int, num_features: int, seed: int) -> Tensor:
    """Two views of each image from the true model, ``(2, N, D)``."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num_images, num_features, generator=generator)
    noise = torch.randn(2, num_images, num_features, generator=generator)
    return z + true_noise(num_features) * noise


def _right(noise: Tensor) -> LinearGaussian:
    return LinearGaussian(noise)


def _permuted(noise: Tensor) -> Tensor:
    return noise[torch.randperm(len(noise), generator=torch.Generator().manual_seed(1))]


def _guide_permuted(noise: Tensor) -> LinearGaussian:
    scale = noise / (1 + noise.square()).sqrt()
    return LinearGaussian(noise, sharpness=scale / _permuted(scale))


def _one_sharp(noise: Tensor) -> LinearGaussian:
    sharpness = torch.ones_like(noise)
    sharpness[0] = 10.0
    return LinearGaussian(noise, sharpness=sharpness)


def _all_rough(noise: Tensor) -> LinearGaussian:
    generator = torch.Generator().manual_seed(2)
    return LinearGaussian(
        noise, sharpness=(0.1 * torch.randn(len(noise), generator=generator)).exp()
    )


@dataclass(frozen=True)
class Fault:
    """A method that is wrong in one way, from the true noise, and what is done to the data."""

    method: Callable[[Tensor], LinearGaussian] = _right
    data: Callable[[Tensor], Tensor] = lambda embeddings: embeddings


FAULTS: dict[str, Fault] = {
    "none": Fault(),
    "likelihood scale times 1.5": Fault(lambda noise: LinearGaussian(1.5 * noise)),
    "likelihood scale times 2": Fault(lambda noise: LinearGaussian(2 * noise)),
    "likelihood scale divided by 1.5": Fault(lambda noise: LinearGaussian(noise / 1.5)),
    "likelihood scale divided by 2": Fault(lambda noise: LinearGaussian(noise / 2)),
    "guide overconfident by 1.5": Fault(lambda noise: LinearGaussian(noise, sharpness=1.5)),
    "guide overconfident by 2": Fault(lambda noise: LinearGaussian(noise, sharpness=2.0)),
    "z ignored": Fault(lambda noise: LinearGaussian(noise, uses_latent=False)),
    "prior scale times 2": Fault(lambda noise: LinearGaussian(noise, prior_scale=2.0)),
    "prior scale divided by 2": Fault(lambda noise: LinearGaussian(noise, prior_scale=0.5)),
    "σ of features permuted in the likelihood": Fault(lambda n: LinearGaussian(_permuted(n))),
    "σ of features permuted in the guide": Fault(_guide_permuted),
    "σ of one feature divided by 10 in the guide": Fault(_one_sharp),
    "σ of every feature off by 10 % in the guide": Fault(_all_rough),
    "target from another image": Fault(data=lambda e: torch.stack([e[0], e[1].roll(1, 0)])),
}
"""What is planted, by name; the first is the right model."""

CHECKS: dict[str, Callable[[Pairs, int], Any]] = {
    "importance": lambda pairs, seed: importance_weights(pairs, seed=seed),
    "blocks": lambda pairs, seed: block_importance(pairs, seed=seed),
    "c2st": lambda pairs, seed: classifier_test(
        compare_with_nuts(pairs, num_samples=50, num_chains=4, num_warmup=60, seed=seed)
    ),
    "sbc_guide": lambda pairs, seed: simulation_based_calibration(pairs, "guide", seed=seed),
    "latent": lambda pairs, seed: latent_usage(pairs, seed=seed),
    "features": lambda pairs, seed: feature_check(pairs, seed=seed),
    "prior_features": lambda pairs, seed: feature_check(pairs, seed=seed, kind="prior"),
}
"""Checks of ``vje diagnose`` that have a verdict."""


def make_pairs(fault: Fault, num_images: int, num_features: int, seed: int = 0) -> Pairs:
    """Data of the true model for a method with a fault."""
    return Pairs(
        method=fault.method(true_noise(num_features)).eval(),
        embeddings=fault.data(true_data(num_images, num_features, seed)),
        labels=torch.full((num_images,), -1),
        classes=(),
        indices=torch.arange(num_images),
        split="made",
    )


def found(fault: Fault, sizes: tuple[int, int], seed: int = 0) -> dict[str, bool]:
    """Which checks flag a fault, on so many images of so many features."""
    pairs = make_pairs(fault, *sizes, seed)
    return {name: check(pairs, seed).verdict.flagged for name, check in CHECKS.items()}


def false_alarms(sizes: tuple[int, int], repetitions: int) -> dict[str, int]:
    """How many of so many data sets of the right model each check flags.

    The classifier is given draws of the exact posterior, which here is the guide, for NUTS's.
    """
    counts = dict.fromkeys(CHECKS, 0)
    for seed in range(1, repetitions + 1):
        pairs = make_pairs(FAULTS["none"], *sizes, seed)
        for name, check in CHECKS.items():
            check = _exact_c2st if name == "c2st" else check
            counts[name] += check(pairs, seed).verdict.flagged
    return counts


def _exact_c2st(pairs: Pairs, seed: int) -> C2ST:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 200, 8, pairs.num_features, generator=generator)
    return C2ST(accuracies(first, second), len(first), r_hat_max=1.0, joint=True)


def main(arguments: list[str] | None = None, file: Path = FILE) -> None:
    """Parse the command line, plant every fault and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=256, help="D (default 256)")
    parser.add_argument("--images", type=int, default=100, help="N (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the data with faults and of draws")
    parser.add_argument("--null-features", type=int, default=64, help="D for false alarms")
    parser.add_argument("--repetitions", type=int, default=100, help="data sets for false alarms")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {}
    for name, fault in FAULTS.items():
        rows[name] = found(fault, (options.images, options.features), options.seed)
        print(name, [check for check, flagged in rows[name].items() if flagged], flush=True)
    alarms = false_alarms((options.images, options.null_features), options.repetitions)
    record = {
        "benchmark": "faults", "faults": rows, "false_alarms": alarms, "config": vars(options),
        **origin(),
    }  # fmt: skip
    make_folder(file.parent)
    write_atomic(file, json.dumps(record, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
