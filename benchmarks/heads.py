"""Bayesian heads on finished runs: bayes-heads-v1 as result files in docs/results/heads.

    python benchmarks/heads.py RUN [RUN …] --study NAME [--data-root FOLDER]

The runs are one for each seed of a method. Writes
``docs/results/heads/<study>/<method>-encoder-seed<seed>-bayes-heads-v1.json``; files that are there
are not made again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ood import RESULTS, load_with_data, stem, write
from vje_pyro.experiments.evaluate import evaluate_run, print_results

PROTOCOL = "bayes-heads-v1"


def main(arguments: Sequence[str] | None = None, results: Path = RESULTS) -> None:
    """Parse the command line and evaluate what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--study", required=True, help="name of the folder of results")
    parser.add_argument("--data-root", type=Path, help="folder of data sets (default: the run's)")
    options = parser.parse_args(arguments)
    for path in options.runs:
        run = load_with_data(path, options.data_root)
        file = results / "heads" / options.study / f"{stem(run)}-{PROTOCOL}.json"
        if not file.exists():
            (result,) = evaluate_run(run, "encoder", (PROTOCOL,))
            print_results([result])
            write(result, file)


if __name__ == "__main__":
    main()
