"""A study: one experiment, several seeds, its result files in docs/results/<study>.

Trains and evaluates every seed; a finished one is only evaluated again, a broken one is resumed.
By default the small CIFAR-10 study: VJE on 10,000 images at 16 by 16 pixels, 20 epochs.

    python benchmarks/study.py [override …] [--experiment NAME] [--seeds 0 1 2] [--study NAME]

Overrides are those of ``vje train``, such as data.root=… or data.download=true. A study with other
settings needs a name of its own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from vje_pyro.experiments.evaluate import evaluate_run, print_results
from vje_pyro.experiments.pretrain import CONFIG_DIR, resume, train

from vje_pyro import load
from vje_pyro.evaluation import DEFAULT

ROOT = Path(__file__).parents[1]


def run_seed(
    experiment: str,
    study: str,
    seed: int,
    overrides: list[str],
    chosen: list[str],
    protocols: Sequence[str] = DEFAULT,
) -> None:
    """Train, or finish, one seed and write the results of the chosen features."""
    run_dir = ROOT / "runs" / study / f"seed{seed}"
    if (run_dir / "run.json").exists():
        resume(run_dir)
    else:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose(
                "train",
                [f"experiment={experiment}", f"seed={seed}", f"run_dir={run_dir}", *overrides],
            )
        train(config, run_dir)
    run = load(run_dir)
    for features in chosen:
        results = evaluate_run(run, features, protocols)
        print_results(results)
        for result in results:
            # Where the data lie on this machine is nobody's business.
            result.config["data"].pop("root", None)
            result.config.pop("run_dir", None)
            result.write(ROOT / "docs" / "results" / study / result.filename)


def main() -> None:
    """Parse the command line and run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--experiment", default="cifar10_small")
    parser.add_argument("--study", help="name of the results; the experiment's by default")
    parser.add_argument("--features", nargs="+", default=["encoder", "batch-norm"])
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    for seed in options.seeds:
        study = options.study or options.experiment
        run_seed(options.experiment, study, seed, options.overrides, options.features)


if __name__ == "__main__":
    main()
