"""The ablation of the model on the small CIFAR-10 study: one part changed at a time.

Trains and evaluates what is missing, a seed of every variant before the next seed; finished runs
are skipped and broken ones resumed, so that it can be stopped and started at will.

    python benchmarks/ablation.py [override …] [--seeds 0 1 2] [--variants NAME …] [--minutes M]

The results are in docs/results/ablation, and ``make results`` makes the table of docs/ablation.md.
Overrides say where to compute and read (data.root=…, device.accelerator=…), not what.
"""

import argparse
import time
from pathlib import Path

from study import ROOT, run_seed

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


def is_done(study: str, seed: int) -> bool:
    """Whether a variant's results of this seed are there."""
    folder = ROOT / "docs" / "results" / study
    return all(list(folder.glob(f"*-encoder-seed{seed}-{protocol}.json")) for protocol in PROTOCOLS)


def main() -> None:
    """Parse the command line and run what is missing, as long as there is time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none after this")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    start = time.monotonic()
    for seed in options.seeds:
        for variant in options.variants:
            study = str(Path("ablation") / variant)
            if is_done(study, seed):
                continue
            if time.monotonic() - start > 60 * options.minutes:
                print("no time left; start it again to go on")
                return
            overrides = [*VARIANTS[variant], *options.overrides]
            run_seed("cifar10_small", study, seed, overrides, ["encoder"], PROTOCOLS)


if __name__ == "__main__":
    main()
