"""Out-of-distribution detection with a run: ``vje ood RUN``.

Writes ``RUN/results/ood-v1-NAME.json`` for every set, with AUROC, AUPR and FPR at 95 % TPR of
every score, and their intervals. Scores are higher for what is more outlying.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.experiments.arguments import add_run_arguments, load_run

from vje_pyro.data import list_outliers, read_outliers
from vje_pyro.data.decoding import printable
from vje_pyro.evaluation import Result, Scorer, evaluate_ood
from vje_pyro.evaluation.scorer import NUM_VIEWS
from vje_pyro.run import Representation


def ood_run(
    run: Representation,
    names: Sequence[str] = (),
    root: str | Path | None = None,
    num_views: int = NUM_VIEWS,
    calibrate_on: str | None = None,
) -> dict[str, Result]:
    """Score a run's test split and other data sets, and write a result file each.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        names: Sets, as :func:`vje_pyro.data.read_outliers` knows them; all of ``ROOT/ood`` when
            there are none.
        root: Folder of data sets; the run's own when None.
        num_views: Random views of an image.
        calibrate_on: Split that p-values are read from, such as ``"validation"``, which the encoder
            has not seen; training images outside the densities when None.

    Returns:
        The results by the set's name.

    Raises:
        DataError: If a set is missing, damaged or the run's own data.
    """
    root = root or run.config["data"].get("root", "data")
    names = list(names) or list_outliers(root)
    outliers = {printable(Path(name).name): read_outliers(name, root, run.source) for name in names}
    train, test = (run.source.split(name) for name in ("train", "test"))
    calibration = calibrate_on and run.source.split(calibrate_on)
    scorer = Scorer(
        run.method, train, run.normalize, run.views, num_views, calibration=calibration or None
    )
    results = evaluate_ood(
        scorer,
        train,
        test,
        outliers,
        dataset=run.source.name,
        seed=run.info["seed"],
        config=run.config,
    )
    for name, result in results.items():
        result.write(run.path / "results" / f"ood-v1-{name}.json")
    return results


def print_table(results: dict[str, Result], metric: str = "auroc") -> None:
    """A line per score with the metric on every set and its interval."""
    wanted = [n for n in next(iter(results.values())).figures if n.startswith(f"{metric}_")]
    print(f"{metric:28}" + "".join(f"{name[:24]:26}" for name in results))
    for name in wanted:
        figures = (result.figures[name] for result in results.values())
        cells = (f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in figures)
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
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run = load_run(options)
    print_table(ood_run(run, options.out, options.ood_root, options.views, options.calibrate_on))
    print(f"results in {run.path / 'results'}")
