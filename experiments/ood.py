"""Out-of-distribution detection with a run: ``vje ood RUN``.

Writes ``RUN/results/ood-v1-NAME.json`` for every set, with AUROC, AUPR and FPR at 95 % TPR of
every score, and their intervals. Scores are higher for what is more outlying. A set that cannot be
used is left out by name, and the exit code is then 3.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vje_pyro.data import list_outliers, read_outliers
from vje_pyro.data.decoding import printable
from vje_pyro.evaluation import OutOfDistribution, Result, Scorer
from vje_pyro.evaluation.scorer import NUM_VIEWS
from vje_pyro.experiments.arguments import add_results_argument, add_run_arguments, load_run
from vje_pyro.experiments.partial import Parts, attempted, output_folder
from vje_pyro.run import Representation
from vje_pyro.statistics import show


def ood_run(
    run: Representation,
    names: Sequence[str] = (),
    root: str | Path | None = None,
    num_views: int = NUM_VIEWS,
    calibrate_on: str | None = None,
    folder: str | Path | None = None,
) -> dict[str, Result]:
    """Score a run's test split and other data sets; write a result file each when it is ready.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        names: Sets, as :func:`vje_pyro.data.read_outliers` knows them; all of ``ROOT/ood`` when
            there are none.
        root: Folder of data sets; the run's own when None.
        num_views: Random views of an image.
        calibrate_on: Split that p-values are read from, such as ``"validation"``, which the encoder
            has not seen; training images outside the densities when None.
        folder: Where to write; ``RUN/results`` when None.

    Returns:
        The results by the set's name: the last part of its path, or as much as tells it apart.

    Raises:
        DataError: If the run's own data cannot be read.
        LeftOut: If sets were left out: missing, damaged or the run's own data.
        WriteError: If the folder cannot be written.
    """
    out = output_folder(run.path / "results", folder)
    root = root or run.config["data"].get("root", "data")
    outliers = distinct_names(list(names) or list_outliers(root))
    train, test = (run.source.split(name) for name in ("train", "test"))
    calibration = calibrate_on and run.source.split(calibrate_on)
    scorer = Scorer(
        run.method, train, run.normalize, run.views, num_views, calibration=calibration or None
    )
    detect = OutOfDistribution(
        scorer, train, test, dataset=run.source.name, seed=run.info["seed"], config=run.config
    )
    parts, results = Parts(), {}
    parts.left_out |= scorer.left_out
    for name, path in outliers.items():
        with parts.part(name):
            results[name] = detect(name, read_outliers(path, root, run.source))
            results[name].write(out / f"ood-v1-{name}.json")
    parts.finish(results)
    return results


def distinct_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path once, by the shortest end of it that no other has.

    Example:
        >>> distinct_names(["a/noise", "b/noise", "svhn", "svhn"])
        {'a-noise': 'a/noise', 'b-noise': 'b/noise', 'svhn': 'svhn'}
    """
    ends = {path: [p for p in Path(path).absolute().parts if p != os.sep] for path in paths}
    names = {}
    for path, parts in ends.items():
        others = [other for other in ends.values() if other != parts]
        depth = 1
        while depth < len(parts) and any(o[-depth:] == parts[-depth:] for o in others):
            depth += 1
        names[printable("-".join(parts[-depth:]))] = path
    return names


def print_table(results: dict[str, Result], metric: str = "auroc") -> None:
    """A line per score with the metric on every set and its interval."""
    wanted = [n for n in next(iter(results.values())).figures if n.startswith(f"{metric}_")]
    print(f"{metric:28}" + "".join(f"{name[:24]:26}" for name in results))
    for name in wanted:
        figures = (result.figures[name] for result in results.values())
        cells = (show(f, ".3f") for f in figures)
        print(f"{name.removeprefix(metric + '_'):28}" + "".join(f"{cell:26}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and detect."""
    parser = argparse.ArgumentParser(prog="vje ood", description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument(
        "--out", nargs="+", default=[], metavar="NAME",
        help="sets: NAME of ROOT/ood/NAME.npz (default: all), a set of torchvision in ROOT, or a "
        "folder where the run's data are image files",
    )  # fmt: skip
    parser.add_argument("--ood-root", help="folder with the sets (default: the run's data root)")
    parser.add_argument("--views", type=int, default=NUM_VIEWS, help=f"default {NUM_VIEWS}")
    parser.add_argument(
        "--calibrate-on", choices=["validation"],
        help="images for the p-values: validation is what data.train_limit left out of training "
        "(default: training images)",
    )  # fmt: skip
    add_results_argument(parser, default="RUN/results")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run = load_run(options)
    chosen = options.out, options.ood_root, options.views, options.calibrate_on
    with attempted(partial(ood_run, run, *chosen, options.results)) as results:
        print_table(results)
        print(f"results in {options.results or run.path / 'results'}")
