"""One-class detection over seeds, as result files in docs/results.

    python benchmarks/one_class.py [override …] [--experiment digits] [--seeds 0 1 2] [--study NAME]

Trains ten models a seed in ``runs/one-class/<study>/seed<seed>`` (or below ``--runs``), goes on
where it was stopped, and writes
``docs/results/one_class/<study>/<method>-encoder-seed<seed>-one-class-v1.json``. Overrides are
those of ``vje train``.
"""

import argparse
from pathlib import Path

from ood import RESULTS, write
from vje_pyro.experiments.one_class import one_class

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Parse the command line and run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--study", help="name of the results; the experiment's by default")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "one-class")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    study = options.study or options.experiment
    for seed in options.seeds:
        overrides = [f"experiment={options.experiment}", f"seed={seed}", *options.overrides]
        result = one_class(overrides, options.runs / study / f"seed{seed}")
        for name, figure in result.figures.items():
            if name.count("_") == 1:
                print(f"{name:40} {figure.value:.4f}  [{figure.low:.4f}, {figure.high:.4f}]")
        write(result, RESULTS / "one_class" / study / result.filename)


if __name__ == "__main__":
    main()
