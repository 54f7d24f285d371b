"""Evaluate a run: ``vje evaluate RUN``.

What cannot be measured is left out by name, and the exit code is then 3; all else is written.
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vje_pyro.data import ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation import DEFAULT, PROTOCOLS, Features, Result, evaluate, extract, pixels
from vje_pyro.evaluation.protocols import usable
from vje_pyro.experiments.arguments import add_results_argument, add_run_arguments, load_run
from vje_pyro.experiments.partial import Parts, attempted, output_folder
from vje_pyro.run import Representation
from vje_pyro.statistics import show

logger = logging.getLogger(__name__)

FEATURES = ("encoder", "batch-norm", "pixels")
"""What a run can be evaluated on."""


def evaluate_run(
    run: Representation,
    features: str = "encoder",
    protocols: Sequence[str] = DEFAULT,
    folder: str | Path | None = None,
) -> list[Result]:
    """Run protocols on the run's data set and write a result file each, as soon as it is ready.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        features: ``"encoder"``, ``"batch-norm"`` (see ``evaluation.features``) or ``"pixels"``.
        protocols: Names from :data:`vje_pyro.evaluation.PROTOCOLS`.
        folder: Where to write; ``RUN/results`` when None.

    Returns:
        The results, also written to ``FOLDER/PROTOCOL-FEATURES.json``.

    Raises:
        DataError: If the data set has no labelled train and test splits of two classes or more.
        LeftOut: If a protocol, a figure or images were left out; all else is written.
        WriteError: If the folder cannot be written.
    """
    out = output_folder(run.path / "results", folder)
    needs_posterior = "bayes-heads-v1" in protocols and hasattr(run.method, "posterior")
    train, test = _features(run, features, needs_posterior)
    usable(train, test)
    parts, results = Parts(), []
    for protocol in protocols:
        with parts.part(protocol):
            (result,) = evaluate(
                train,
                test,
                dataset=run.source.name,
                method="pixels" if features == "pixels" else type(run.method).__name__,
                features=features,
                seed=run.info["seed"],
                config=run.config,
                protocols=[protocol],
                device=run.device,
            )
            result.write(out / f"{protocol}-{features}.json")
            results.append(result)
            for name, why in result.details.get("left_out", {}).items():
                parts.left_out[f"{protocol} {name}" if "accuracy" in name else name] = why
    parts.finish(results)
    return results


def _features(run: Representation, features: str, posterior: bool) -> list[Features]:
    """Of the train and the test split."""
    splits = [run.source.split(name) for name in ("train", "test")]
    if features != "pixels":
        return [
            extract(
                run.method,
                split,
                run.normalize,
                device=run.device,
                features=features,
                posterior=posterior,
            )
            for split in splits
        ]
    if not all(isinstance(split, ImageArray) for split in splits):
        raise DataError("the raw-pixel baseline needs a data set that is held in memory.")
    return [pixels(split) for split in splits if isinstance(split, ImageArray)]


def print_results(results: Sequence[Result]) -> None:
    """A line per figure, with its interval."""
    for result in results:
        for name, figure in result.figures.items():
            print(
                f"{result.method:10} {result.features:10} {result.protocol:14} {name:29} "
                f"{show(figure, '.4f')}  {figure.interval}"
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
    add_results_argument(parser, "--out", default="RUN/results")
    options = parser.parse_args(arguments)
    run = load_run(options)
    job = partial(evaluate_run, run, options.features, options.protocols, options.results)
    with attempted(job) as results:
        print_results(results)
        print(f"results in {options.results or run.path / 'results'}")
