"""The screening of VJE's recipe on the small CIFAR-10 study: one factor at a time around a centre.

Every variant is trained once (seed 0) and judged by kNN and by a linear probe on the validation
split: training images that no run of the study trains on, with the trained ones as the bank. The
test split takes no part. The rule by which a recipe is chosen from this, the predictions and the
outcomes are in docs/studies/recipe.md; the recipe that is chosen becomes a contender of
``benchmarks/methods.py``, with the search of the learning rate and the seeds of all others.

Trains what is missing, one process a run; finished runs are skipped and broken ones resumed, so
that it can be stopped and started at will.

    python benchmarks/recipe.py [override …] [--variants NAME …] [--minutes M] [--workers N]
    python benchmarks/recipe.py --variants centre --features encoder batch-norm posterior-mean

Results are in docs/results/recipe/<variant>, runs in runs/recipe/<variant>. Overrides say where to
compute and read (data.root=…, device.accelerator=…), not what.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from methods import Study, judge, on_validation
from parallel import run_all
from series import Job, command_line, run_in_time, worker_command
from study import scrubbed
from torch import Tensor, nn
from vje_pyro.experiments.evaluate import print_results

from vje_pyro.distributions.moments import moments

CENTRE: dict[str, str] = {
    "aggregate": "sigreg", "aggregate.weight": "1e-3", "aggregate.num_directions": "256",
    "likelihood/direction": "spherical_student_t",
    "method.beta": "1", "method.num_particles": "1", "method.target_momentum": "null",
    "encoder.widths": "[64,128,256]", "guide.hidden_features": "512", "guide.num_layers": "1",
    "loader.batch_size": "256", "training.epochs": "20", "views.num_views": "2",
    "optimizer": "adamw", "optimizer.lr": "2e-3", "optimizer.weight_decay": "1e-4",
    "views.crop_scale": "[0.2,1.0]", "views.brightness": "0.4", "views.contrast": "0.4",
    "views.saturation": "0.4", "views.hue": "0.1", "views.grayscale": "0.2",
    "data.test_limit": "null",
}  # fmt: skip
"""Every setting that a factor changes, written out: a change of defaults must not move the centre.
Without the limit on the test split there is none on the validation split: 40,000 images.
"""

Change = dict[str, str | None]

OWN: Change = {"likelihood/direction": "power_spherical", "guide.hidden_features": "1024"}
"""What gained a little in both figures and is VJE's own."""

OWN_64: Change = {**OWN, "loader.batch_size": "64", "aggregate.weight": "4e-3"}
"""The recipe that the trial confirmed, but at the centre's rate."""

CHANGES: dict[str, Change] = {
    "centre": {},
    "weight-2e-3": {"aggregate.weight": "2e-3"},
    "direction-power-spherical": {"likelihood/direction": "power_spherical"},
    "views-4": {"views.num_views": "4", "loader.batch_size": "128", "training.epochs": "10"},
    "width-1024": {"guide.hidden_features": "1024"},
    "particles-4": {"method.num_particles": "4"},
    "momentum-0.99": {"method.target_momentum": "0.99"},
    "batch-128": {"loader.batch_size": "128"},
    "rate-4e-3": {"optimizer.lr": "4e-3"},
    "beta-0.5": {"method.beta": "0.5"},
    "depth-2": {"guide.num_layers": "2"},
    "weight-4e-3": {"aggregate.weight": "4e-3"},
    "dim-512": {"encoder.widths": "[64,128,512]"},
    "rate-1e-3": {"optimizer.lr": "1e-3"},
    "beta-2": {"method.beta": "2"},
    "batch-512": {"loader.batch_size": "512"},
    "weight-3e-4": {"aggregate.weight": "3e-4"},
    "dim-128": {"encoder.widths": "[64,128,128]"},
    "sliced-wasserstein": {"aggregate": "sliced_wasserstein", "aggregate.weight": "5e-4"},
    "variance-covariance-0.1": {
        "aggregate": "variance_covariance", "aggregate.weight": "0.1",
        "aggregate.num_directions": None,
    },
    "variance-covariance-0.01": {
        "aggregate": "variance_covariance", "aggregate.weight": "0.01",
        "aggregate.num_directions": None,
    },
    "variance-covariance-0.001": {
        "aggregate": "variance_covariance", "aggregate.num_directions": None,
    },
    "sgd-0.5": {"optimizer": "sgd", "optimizer.lr": "0.5", "optimizer.weight_decay": "1e-5"},
    "sgd-0.05": {"optimizer": "sgd", "optimizer.lr": "0.05", "optimizer.weight_decay": "5e-4"},
    "directions-1024": {"aggregate.num_directions": "1024"},
    "directions-64": {"aggregate.num_directions": "64"},
    "depth-0": {"guide.num_layers": "0"},
    "aggregate-none": {
        "aggregate": "none", "aggregate.weight": None, "aggregate.num_directions": None,
    },
    "crop-0.35": {"views.crop_scale": "[0.35,1.0]"},
    "crop-0.1": {"views.crop_scale": "[0.1,1.0]"},
    "colour-half": {
        "views.brightness": "0.2", "views.contrast": "0.2", "views.saturation": "0.2",
        "views.hue": "0.05",
    },
    "grayscale-0": {"views.grayscale": "0"},
    "own": OWN,
    "own-128": {**OWN, "loader.batch_size": "128", "aggregate.weight": "2e-3"},
    "own-64": {**OWN_64, "optimizer.lr": "1e-3"},
    "own-64-rate-2e-3": OWN_64,
    "own-64-rate-4e-3": {**OWN_64, "optimizer.lr": "4e-3"},
    "own-64-decay-0.05": {**OWN_64, "optimizer.weight_decay": "0.05"},
    "own-64-directions-1024": {**OWN_64, "aggregate.num_directions": "1024"},
    "own-64-both": {
        **OWN_64, "optimizer.weight_decay": "0.05", "aggregate.num_directions": "1024",
    },
}  # fmt: skip
"""What each variant changes, those that are likeliest to matter first; None is left out.
Four of the views were added when the first eight had shown a plateau, the combinations after
sixteen runs, the least weight of the variance-covariance term after thirty, and the
variants of ``own-64`` after the study of methods.

A rate is not scaled with the batch, and only the last stage of the encoder with D. Four views have
the centre's number of steps and of encoder passes: half the batch, and half the epochs. The rates
of SGD are those of SimSiam's recipe (``recipe/simsiam.yaml``) and of ``optimizer/sgd.yaml``."""


def overrides(change: Change) -> list[str]:
    """The centre with a change, as ``vje train`` takes it."""
    return [f"{key}={value}" for key, value in (CENTRE | change).items() if value is not None]


VARIANTS = {name: overrides(change) for name, change in CHANGES.items()}

PROTOCOLS = ("knn-v1", "linear-v1")

FEATURES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "encoder": lambda method, images: method.embed(images),
    "batch-norm": lambda method, images: method.encode(images),
    "posterior-mean": lambda method, images: moments(method.posterior(images))[0],
}
"""Where the features of a run can be read."""


class Reading(nn.Module):
    """A method whose features are read at another place.

    Args:
        method: The method.
        features: Name from :data:`FEATURES`.
    """

    def __init__(self, method: nn.Module, features: str) -> None:
        super().__init__()
        self.method = method
        self.embed = partial(FEATURES[features], method)


def is_done(study: Study, variant: str, seed: int, features: str) -> bool:
    """Whether the judgement is there."""
    pattern = f"*-{features}-seed{seed}-{{}}.json"
    folder = study.results(variant)
    return all(list(folder.glob(pattern.format(on_validation(p)))) for p in PROTOCOLS)


def screen(study: Study, variant: str, seed: int, features: Sequence[str]) -> None:
    """Train a variant, or take its finished run, and judge features of it."""
    run = study.train(variant, seed)
    for name in features:
        results = judge(run, Reading(run.method, name), name, PROTOCOLS)
        print_results(results)
        for result in results:
            scrubbed(result).write(study.results(variant) / result.filename)


def missing(
    study: Study, variants: Sequence[str], seeds: Sequence[int], features: Sequence[str]
) -> Iterator[tuple[str, int, list[str]]]:
    """Variant, seed and features of what is not judged yet, a seed of every variant first."""
    for seed in seeds:
        for variant in variants:
            left = [name for name in features if not is_done(study, variant, seed, name)]
            if left:
                yield variant, seed, left


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run what is missing, as long as there is time.

    Returns:
        Exit code: 1 if a run failed.
    """
    parser = command_line(__doc__, "recipe", list(VARIANTS), (0,), "variants")
    parser.add_argument("--features", nargs="+", default=["encoder"], choices=list(FEATURES))
    options = parser.parse_args(arguments)
    where = tuple(options.overrides)
    study = Study(options.experiment, where, options.root, options.study, VARIANTS)
    todo = missing(study, options.variants, options.seeds, options.features)
    if options.workers > 1:
        commands = [
            worker_command(__file__, options, variants=[variant], seeds=[seed], features=features)
            for variant, seed, features in todo
        ]
        return int(run_all(commands, options.workers, options.minutes) > 0)
    jobs: Iterator[Job] = (partial(screen, study, *job) for job in todo)
    return int(run_in_time(jobs, options.minutes) > 0)


if __name__ == "__main__":
    sys.exit(main())
