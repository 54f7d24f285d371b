"""The ablation of the model on the small CIFAR-10 study: one part changed at a time.

Trains and evaluates what is missing, a seed of every variant before the next seed; finished runs
are skipped and broken ones resumed, so that it can be stopped and started at will.

    python benchmarks/ablation.py [override …] [--seeds 0 1 2] [--variants NAME …] [--minutes M]

The results are in docs/results/ablation: accuracies, what the logs say at the end of a run, and
what its latent is used for. ``make results`` makes the table of docs/ablation.md.
Overrides say where to compute and read (data.root=…, device.accelerator=…), not what. ``--workers``
trains several at a time, each in a process of its own, for a GPU that one leaves idle.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from parallel import run_all
from series import command_line, run_in_time, worker_command
from study import run_seed, scrubbed
from training_logs import TRAINING_PROTOCOL, training_result
from vje_pyro.experiments.diagnose import split_pairs

from vje_pyro.diagnostics import latent_usage
from vje_pyro.evaluation import Figure, Result
from vje_pyro.run import Representation

VARIANTS: dict[str, list[str]] = {
    "baseline": [],
    "direction-spherical-normal": ["likelihood/direction=spherical_normal"],
    "direction-projected-student-t": ["likelihood/direction=projected_student_t"],
    "direction-von-mises-fisher": ["likelihood/direction=von_mises_fisher"],
    "direction-power-spherical": ["likelihood/direction=power_spherical"],
    "df-3": ["likelihood.direction.df=3"],
    "df-10": ["likelihood.direction.df=10"],
    "df-100": ["likelihood.direction.df=100"],
    "beta-0.25": ["method.beta=0.25"],
    "beta-4": ["method.beta=4"],
    "reference-radius-1": ["method.reference_radius=1"],
    "target-gradient-flows": ["method.target_grad=flow"],
    "radius-none": ["likelihood/radius=none"],
    "normalized": ["likelihood/direction=spherical_student_t_normalized"],
    "beta-0.5": ["method.beta=0.5"],
    "beta-2": ["method.beta=2"],
}
"""Overrides of each variant, those that tell most first. The Gaussian limit is the spherical
normal; the baseline has one degree of freedom, β = 1 and the reference radius √D."""

PROTOCOLS = ("knn-v1", "linear-v1")
LATENT_PROTOCOL = "latent-v1"
LATENT_FIGURES = ("kl", "mutual_information", "latent_gain", "scale_gain")
LATENT_IMAGES = 100


def is_done(folder: Path, seed: int) -> bool:
    """Whether a variant's results of this seed are there."""
    others = (TRAINING_PROTOCOL, LATENT_PROTOCOL)
    return not lacking(folder, seed) and all(_has(folder, seed, name) for name in others)


def lacking(folder: Path, seed: int) -> list[str]:
    """The protocols that a variant is still to be evaluated with, for this seed."""
    return [name for name in PROTOCOLS if not _has(folder, seed, name)]


def _has(folder: Path, seed: int, protocol: str) -> bool:
    return any(folder.glob(_pattern(seed, protocol)))


def _pattern(seed: int, protocol: str) -> str:
    return f"*-encoder-seed{seed}-{protocol}.json"


def missing(results: Path, seeds: Sequence[int], variants: Sequence[str]) -> list[tuple[str, int]]:
    """Variants and seeds without results, in the order in which they are run."""
    jobs = [(variant, seed) for seed in seeds for variant in variants]
    return [(variant, seed) for variant, seed in jobs if not is_done(results / variant, seed)]


def run(options: argparse.Namespace, variant: str, seed: int) -> None:
    """Train one run, or finish it, and write what is missing of its results."""
    study = f"{options.study}/{variant}"
    folder = options.root / "docs" / "results" / study
    overrides, protocols = [*VARIANTS[variant], *options.overrides], lacking(folder, seed)
    features = ["encoder"] if protocols else []
    trained = run_seed(
        options.experiment, study, seed, overrides, features, protocols, options.root
    )
    (evaluated,) = folder.glob(_pattern(seed, PROTOCOLS[0]))
    like = Result.read(evaluated)
    for result in (training_result(trained.path, like), latent_result(trained, like)):
        scrubbed(result).write(folder / result.filename)


def latent_result(run: Representation, like: Result) -> Result:
    """What the latent of a run is used for, on pairs of views of test images; no label takes part.

    Its figures, in nats per datum, are those of :func:`vje_pyro.diagnostics.latent_usage`.
    """
    summary = latent_usage(split_pairs(run, "test", LATENT_IMAGES, seed=0)).summary()
    figures = {name: Figure(**summary[name]) for name in LATENT_FIGURES}
    return Result(
        LATENT_PROTOCOL, like.dataset, like.method, like.features, figures, like.seed,
        config=like.config, device=like.device,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run what is missing, as long as there is time.

    Returns:
        Exit code: 1 if a run failed.
    """
    parser = command_line(__doc__, "ablation", list(VARIANTS), (0, 1, 2), "variants")
    options = parser.parse_args(arguments)
    results = options.root / "docs" / "results" / options.study
    jobs = missing(results, options.seeds, options.variants)
    if options.workers > 1:
        commands = [
            worker_command(__file__, options, variants=[variant], seeds=[seed])
            for variant, seed in jobs
        ]
        return int(run_all(commands, options.workers, options.minutes) > 0)

    chosen = (partial(run, options, *job) for job in jobs)
    return int(run_in_time(chosen, options.minutes) > 0)


if __name__ == "__main__":
    sys.exit(main())
