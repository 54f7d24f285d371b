"""Out-of-distribution detection and uncertainty of finished runs, as result files in docs/results.

    python benchmarks/ood.py RUN [RUN …] --study NAME [--data-root FOLDER] [--out NAME …]

Writes ``docs/results/ood/<study>/<method>-encoder-seed<seed>-ood-v1-<set>.json`` and
``docs/results/uncertainty/<study>/<method>-encoder-seed<seed>-uncertainty-v2.json``. Files that are
there are not made again, so that it can be stopped and started at will.
"""

import argparse
from pathlib import Path

from vje_pyro.experiments.ood import ood_run, print_table
from vje_pyro.experiments.uncertainty import PROTOCOL, uncertainty_run

from vje_pyro import load
from vje_pyro.data import list_outliers
from vje_pyro.evaluation import Result
from vje_pyro.run import Representation
from vje_pyro.training.run_json import read_run_json

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def write(result: Result, path: Path) -> None:
    """Write a result without the folders of this machine, which are nobody's business."""
    scrub(result.config)
    result.write(path)


def scrub(config: dict) -> None:
    """Take the folders out of a configuration, in place."""
    for data in (config["data"], config["data"].get("source", {})):
        data.pop("root", None)
    config.pop("run_dir", None)


def load_with_data(path: str, root: Path | None) -> Representation:
    """A run that reads its data from a folder; embedded data have none."""
    rooted = "root" in read_run_json(Path(path))["config"]["data"]
    return load(path, data_root=root if rooted else None)


def stem(run: Representation) -> str:
    """Start of a result's file name."""
    return f"{type(run.method).__name__}-encoder-seed{run.info['seed']}"


def detect(run: Representation, study: str, names: list[str], root: Path) -> None:
    """What is missing of ood-v1."""
    folder = RESULTS / "ood" / study
    files = {n: folder / f"{stem(run)}-ood-v1-{n}.json" for n in names or list_outliers(root)}
    missing = [name for name, file in files.items() if not file.exists()]
    if not missing:
        return
    results = ood_run(run, missing, root)
    print_table(results)
    for name, result in results.items():
        write(result, files[name])


def doubt(run: Representation, study: str, root: Path) -> None:
    """uncertainty-v2, if it is missing."""
    file = RESULTS / "uncertainty" / study / f"{stem(run)}-{PROTOCOL}.json"
    if file.exists():
        return
    human = root / "cifar10h.npz"
    with_people = run.source.name == "cifar10" and human.is_file()
    result = uncertainty_run(run, human if with_people else None)
    for name, figure in result.figures.items():
        print(f"{name:40} {figure.value:7.4f}  [{figure.low:.4f}, {figure.high:.4f}]")
    write(result, file)


def main() -> None:
    """Parse the command line and run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run directories, one for each seed of a method")
    parser.add_argument("--study", required=True, help="name of the folder of results")
    parser.add_argument("--data-root", type=Path, help="folder of data sets (default: the run's)")
    parser.add_argument("--out", nargs="+", default=[], help="sets; default: all of ROOT/ood")
    options = parser.parse_args()
    for path in options.runs:
        run = load_with_data(path, options.data_root)
        root = options.data_root or Path(run.config["data"].get("root", "data"))
        detect(run, options.study, options.out, root)
        doubt(run, options.study, root)


if __name__ == "__main__":
    main()
