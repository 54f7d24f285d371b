"""Evaluate a run: ``vje evaluate RUN``."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.experiments.arguments import add_run_arguments, load_run

from vje_pyro.data import ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation import DEFAULT, PROTOCOLS, Result, evaluate, extract, pixels
from vje_pyro.run import Representation

logger = logging.getLogger(__name__)

FEATURES = ("encoder", "batch-norm", "pixels")
"""What a run can be evaluated on."""


def evaluate_run(
    run: Representation, features: str = "encoder", protocols: Sequence[str] = DEFAULT
) -> list[Result]:
    """Run protocols on the run's data set and write a result file each.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        features: ``"encoder"``, ``"batch-norm"`` (see ``evaluation.features``) or ``"pixels"``.
        protocols: Names from :data:`vje_pyro.evaluation.PROTOCOLS`.

    Returns:
        The results, also written to ``RUN/results/PROTOCOL-FEATURES.json``.

    Raises:
        DataError: If the data set has no labelled train and test splits.
    """
    splits = [run.source.split(name) for name in ("train", "test")]
    if features == "pixels":
        method = "pixels"
        if not all(isinstance(split, ImageArray) for split in splits):
            raise DataError("the raw-pixel baseline needs a data set that is held in memory.")
        train, test = (pixels(s) for s in splits if isinstance(s, ImageArray))
    else:
        method = type(run.method).__name__
        train, test = (
            extract(
                run.method,
                split,
                run.normalize,
                device=run.device,
                features=features,
                posterior="bayes-heads-v1" in protocols and hasattr(run.method, "posterior"),
            )
            for split in splits
        )
    results = evaluate(
        train,
        test,
        dataset=run.source.name,
        method=method,
        features=features,
        seed=run.info["seed"],
        config=run.config,
        protocols=protocols,
        device=run.device,
    )
    for result in results:
        result.write(run.path / "results" / f"{result.protocol}-{features}.json")
    return results


def print_results(results: Sequence[Result]) -> None:
    """A line per figure, with its interval."""
    for result in results:
        for name, figure in result.figures.items():
            print(
                f"{result.method:10} {result.features:10} {result.protocol:14} {name:29} "
                f"{figure.value:.4f}  [{figure.low:.4f}, {figure.high:.4f}]  {figure.interval}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(prog="vje evaluate", description=__doc__)
    add_run_arguments(parser)
    parser.add_argument(
        "--features",
        default="encoder",
        choices=FEATURES,
        help="encoder output (default), after the batch norm, or the raw-pixel baseline",
    )
    parser.add_argument(
        "--protocols", nargs="+", default=list(DEFAULT), choices=list(PROTOCOLS), metavar="NAME",
        help=f"default: {' '.join(DEFAULT)}; all: {' '.join(PROTOCOLS)}",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    run = load_run(options)
    print_results(evaluate_run(run, options.features, options.protocols))
    print(f"results in {Path(run.path) / 'results'}")
