"""A study: one experiment, several seeds, its result files in docs/results/<study>.

Trains and evaluates every seed; a finished one is only evaluated again, a broken one is resumed.
By default the small CIFAR-10 study: VJE on 10,000 images at 16 by 16 pixels, 20 epochs.

    python benchmarks/study.py [override …] [--experiment NAME] [--seeds 0 1 2] [--study NAME]

Overrides are those of ``vje train``, such as data.root=… or data.download=true. A study with other
settings needs a name of its own.
"""

import argparse
import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from vje_pyro.experiments.evaluate import FEATURES, evaluate_run, print_results
from vje_pyro.experiments.pretrain import CONFIG_DIR, make_fabric, resume, train

from vje_pyro import load
from vje_pyro.evaluation import DEFAULT, Result
from vje_pyro.run import Representation, read_run_json
from vje_pyro.training.run_dir import RunDir

ROOT = Path(__file__).parents[1]


def run_seed(
    experiment: str,
    study: str,
    seed: int,
    overrides: Sequence[str],
    chosen: Sequence[str],
    protocols: Sequence[str] = DEFAULT,
    root: Path = ROOT,
) -> Representation:
    """Train, or finish, one seed and write the results of the chosen features.

    Args:
        experiment: Name of the experiment.
        study: Name of the folder of runs and of results.
        seed: Seed of the run.
        overrides: Further ones, as ``vje train`` takes them.
        chosen: The features.
        protocols: What they are evaluated with.
        root: Holds ``runs/`` and ``docs/results/``.

    Returns:
        The run, where it was trained.
    """
    run = train_seed(experiment, root / "runs" / study / f"seed{seed}", seed, overrides)
    for features in chosen:
        results = evaluate_run(run, features, protocols)
        print_results(results)
        for result in results:
            scrubbed(result).write(root / "docs" / "results" / study / result.filename)
    return run


def train_seed(
    experiment: str, run_dir: Path, seed: int, overrides: Sequence[str]
) -> Representation:
    """Train one run in this process, or finish it."""
    if RunDir(run_dir).last.is_file():
        resume(run_dir)
    else:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose(
                "train",
                [f"experiment={experiment}", f"seed={seed}", f"run_dir={run_dir}", *overrides],
            )
        train(config, run_dir)
    return load_where_trained(run_dir)


def load_where_trained(run_dir: Path) -> Representation:
    """The run on the kind of device that it was trained on."""
    device = OmegaConf.create(read_run_json(run_dir)["config"]["device"])
    return load(run_dir, device=make_fabric(device).device.type)


def scrubbed(result: Result) -> Result:
    """The result without the folders of this machine, which are nobody's business."""
    config = copy.deepcopy(result.config)
    for data in (config["data"], config["data"].get("source", {})):
        data.pop("root", None)
    config.pop("run_dir", None)
    return dataclasses.replace(result, config=config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--experiment", default="cifar10_small")
    parser.add_argument("--study", help="name of the results; the experiment's by default")
    # With choices, an override that follows is refused and not taken for features.
    parser.add_argument(
        "--features", nargs="+", default=["encoder", "batch-norm"], choices=FEATURES
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="holds runs/ and docs/results/")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args(arguments)
    study = options.study or options.experiment
    for seed in options.seeds:
        run_seed(
            options.experiment, study, seed, options.overrides, options.features, root=options.root
        )


if __name__ == "__main__":
    main()
