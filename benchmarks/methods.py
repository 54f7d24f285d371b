"""The study of methods: every method on the small CIFAR-10 study, each at its own best rate.

The same encoder, views, batches, epochs and optimiser (AdamW) for every method; heads scaled to
this budget, all else as published. The batch is the recommended recipe's: what is no virtue of one
method, all get (docs/studies/recipe.md, rule 5). Then, for every method alike:

1. A search of the learning rate: three trainings (seed 0), with each of ``RATES`` and with the rate
   ``BEYOND`` the better of them, judged by knn-v1 on the validation split: training images that
   no run of the study trains on, with the trained ones as the bank. The test split takes no part.
2. Three seeds at the best rate (the first is that of the search), evaluated on the test split with
   knn-v1, linear-v1 and few-label-v1; RankMe, time of a step and peak memory are those of the
   runs' logs.

Trains what is missing, one process a run; finished runs are skipped and broken ones resumed, so
that it can be stopped and started at will. The search of all methods comes first, then a seed of
every method before the next seed.

    python benchmarks/methods.py [override …] [--methods NAME …] [--seeds 0 1 2] [--minutes M]

Results are in docs/results/methods/<method>, the search's in its folder ``search``. Overrides say
where to compute and read (data.root=…, device.accelerator=…), not what. The runs stay in
runs/methods/<method>/rate-<rate>-seed<seed>, where ``vje compare`` can read them. ``--workers``
studies several methods at a time, for a GPU that one leaves idle.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parallel import run_all
from series import Job, command_line, run_in_time, worker_command
from study import ROOT, load_where_trained, scrubbed
from torch import nn
from training_logs import TRAINING_PROTOCOL, training_result
from vje_pyro.experiments.compare import train_seed
from vje_pyro.experiments.evaluate import evaluate_run, print_results

from vje_pyro.evaluation import DEFAULT, Result, evaluate, extract
from vje_pyro.run import Representation

COMMON = ["loader.batch_size=64"]

RECOMMENDED = [
    "aggregate=sigreg", "aggregate.weight=4e-3", "likelihood/direction=power_spherical",
    "guide.hidden_features=1024",
]  # fmt: skip
"""VJE as docs/studies/recipe.md recommends it: ``own-64``, but for its rate, which is searched."""

SETTINGS: dict[str, list[str]] = {
    "vje": [],
    "vje-recommended": RECOMMENDED,
    "simsiam": [
        "method=simsiam", "method.hidden_dim=1024", "method.output_dim=1024",
        "method.predictor_dim=256",
    ],
    "byol": [
        "method=byol", "method.hidden_dim=1024", "method.output_dim=256",
        "method.predictor_dim=1024",
    ],
    "barlow_twins": ["method=barlow_twins", "method.hidden_dim=1024", "method.output_dim=1024"],
    "vicreg": ["method=vicreg", "method.hidden_dim=1024", "method.output_dim=1024"],
    "lejepa": ["method=lejepa", "method.hidden_dim=1024", "method.output_dim=64"],
    "moco_v3": [
        "method=moco_v3", "method.hidden_dim=1024", "method.output_dim=256",
        "method.predictor_dim=1024",
    ],
    "simclr": ["method=simclr", "method.hidden_dim=1024", "method.output_dim=256"],
    "vi_simsiam": [
        "method=vi_simsiam", "method.hidden_dim=1024", "method.output_dim=1024",
        "method.predictor_dim=256",
    ],
    "mc_infonce": ["method=mc_infonce", "method.hidden_dim=1024", "method.output_dim=256"],
    "vssl": ["method=vssl", "method.hidden_dim=1024", "method.output_dim=256"],
}  # fmt: skip
"""What a method has of its own: published settings, heads about half as wide."""

METHODS = {name: [*COMMON, *own] for name, own in SETTINGS.items()}
"""Overrides of each method."""

RATES = (1e-3, 5e-4)
"""The first learning rates of every search. The experiment's own is 2e-3 at a batch of 256; scaled
by the root of the batch, as for Adam, that is 1e-3 here.
"""

BEYOND = {1e-3: 2e-3, 5e-4: 2.5e-4}
"""The third rate, on the far side of the better of the first two."""

SEARCH_SEED = 0
SEARCH_PROTOCOL = "rate-search-v1"


@dataclass(frozen=True)
class Study:
    """Where runs and results lie, and what all runs have in common.

    Args:
        experiment: Name of the experiment; it must leave training images for validation
            (``data.train_limit``).
        overrides: Where to compute and read.
        root: Holds ``runs/`` and ``docs/results/``.
        name: Of the study's folder in both.
        variants: Overrides of whatever is studied, by name.
    """

    experiment: str
    overrides: tuple[str, ...] = ()
    root: Path = ROOT
    name: str = "methods"
    variants: Mapping[str, Sequence[str]] = field(default_factory=lambda: METHODS)

    def results(self, method: str) -> Path:
        """Folder of a method's result files."""
        return self.root / "docs" / "results" / self.name / method

    def train(self, method: str, seed: int, rate: float | None = None) -> Representation:
        """Train, or finish, one run in a process of its own; the same run is not done twice.

        Without a rate it is that of the variant or of the experiment.
        """
        searched = "" if rate is None else f"rate-{rate:g}-"
        run_dir = self.root / "runs" / self.name / method / f"{searched}seed{seed}"
        settings = [f"experiment={self.experiment}", *self.variants[method], *self.overrides]
        settings += ["training.progress=false"]
        settings += [] if rate is None else [f"optimizer.lr={rate:g}"]
        train_seed(run_dir, seed, settings)
        return load_where_trained(run_dir)

    # ------------------------------------------------------------------- the learning rate

    def rate_file(self, method: str, rate: float) -> Path:
        """Result file of one training of the search."""
        return self.results(method) / "search" / f"rate-{rate:g}.json"

    def search(self, method: str, rate: float) -> None:
        """One training of the search, judged on training images that it has not seen."""
        (result,) = judge(self.train(method, SEARCH_SEED, rate))
        result.protocol = SEARCH_PROTOCOL
        result.settings["rate"] = rate
        scrubbed(result).write(self.rate_file(method, rate))
        print_results([result])

    def rates(self, method: str) -> tuple[float, ...]:
        """The rates of a method's search; the third is not known until the first two are judged."""
        if not all(self.rate_file(method, rate).exists() for rate in RATES):
            return RATES
        return *RATES, BEYOND[self._best(method, RATES)]

    def best_rate(self, method: str) -> float:
        """The rate of the best training of the search; the smaller one of equals.

        Raises:
            VJEError: If the search is not complete.
        """
        return self._best(method, self.rates(method))

    def _best(self, method: str, rates: Sequence[float]) -> float:
        scores = {
            rate: Result.read(self.rate_file(method, rate)).figures["accuracy"].value
            for rate in rates
        }
        return max(rates, key=lambda rate: (scores[rate], -rate))

    # --------------------------------------------------------------------- the final seeds

    def is_done(self, method: str, seed: int) -> bool:
        """Whether the results of a seed are there."""
        pattern = f"*-encoder-seed{seed}-{{}}.json"
        folder = self.results(method)
        return all(list(folder.glob(pattern.format(p))) for p in (*DEFAULT, TRAINING_PROTOCOL))

    def final(self, method: str, seed: int) -> None:
        """One seed at the best rate, evaluated on the test split."""
        run = self.train(method, seed, self.best_rate(method))
        results = evaluate_run(run, "encoder", DEFAULT)
        results.append(training_result(run.path, results[0]))
        print_results(results)
        for result in results:
            scrubbed(result).write(self.results(method) / result.filename)

    # ---------------------------------------------------------------------------- all of it

    def jobs(self, methods: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
        """What is missing, in order."""
        for nth in range(len(RATES) + 1):
            for method in methods:
                for rate in self.rates(method)[nth : nth + 1]:
                    if not self.rate_file(method, rate).exists():
                        yield lambda method=method, rate=rate: self.search(method, rate)
        for seed in seeds:
            for method in methods:
                if not self.is_done(method, seed):
                    yield lambda method=method, seed=seed: self.final(method, seed)


def judge(
    run: Representation,
    method: nn.Module | None = None,
    features: str = "encoder",
    protocols: Sequence[str] = ("knn-v1",),
) -> list[Result]:
    """Protocols on the validation split, so called that no table takes them for test results.

    Args:
        run: What is judged.
        method: Gives the features; the run's own if there is none.
        features: What to call them.
        protocols: Names from :data:`vje_pyro.evaluation.PROTOCOLS`.
    """
    bank, queries = (
        extract(method or run.method, run.source.split(split), run.normalize, device=run.device)
        for split in ("train", "validation")
    )
    results = evaluate(
        bank, queries, dataset=f"{run.source.name}, validation split",
        method=type(run.method).__name__, features=features, seed=run.info["seed"],
        config=run.config, protocols=protocols, device=run.device,
    )  # fmt: skip
    for result in results:
        result.protocol = on_validation(result.protocol)
    return results


def on_validation(protocol: str) -> str:
    """Name of a protocol where the validation split takes the place of the test split."""
    return protocol.replace("-v", "-validation-v")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run what is missing, as long as there is time.

    A run that fails is said and left for the next start; the others go on.

    Returns:
        Exit code: 1 if a run failed.
    """
    parser = command_line(__doc__, "methods", list(METHODS), (0, 1, 2), "methods")
    options = parser.parse_args(arguments)
    if options.workers > 1:
        commands = [worker_command(__file__, options, methods=[name]) for name in options.methods]
        return int(run_all(commands, options.workers, options.minutes) > 0)
    study = Study(options.experiment, tuple(options.overrides), options.root, options.study)
    return int(run_in_time(study.jobs(options.methods, options.seeds), options.minutes) > 0)


if __name__ == "__main__":
    sys.exit(main())
