"""The posterior of finished runs, as result files in docs/results/diagnostics.

    python benchmarks/posterior.py RUN [RUN …] --study NAME [--data-root FOLDER]

Runs those checks of ``vje diagnose`` that a table compares (posterior_table.py) and writes
``docs/results/diagnostics/<study>-seed<seed>.json``. Files that are there are not made again.
"""

import argparse
import json
from pathlib import Path

from ood import RESULTS, load_with_data, scrub
from vje_pyro.experiments.diagnose import diagnose

from vje_pyro.atomic import write_atomic

CHECKS = ("latent", "importance", "temperature")
HELDOUT, TRAIN = 500, 2000
"""Images that are judged, and that the temperature is fitted on."""


def main(arguments: list[str] | None = None, results: Path = RESULTS) -> None:
    """Parse the command line and run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run directories, one for each seed")
    parser.add_argument("--study", required=True, help="start of the names of the result files")
    parser.add_argument("--data-root", type=Path, help="folder of data sets (default: the run's)")
    options = parser.parse_args(arguments)
    for path in options.runs:
        run = load_with_data(path, options.data_root)
        file = results / "diagnostics" / f"{options.study}-seed{run.info['seed']}.json"
        if file.exists():
            continue
        content = diagnose(run, CHECKS, HELDOUT, TRAIN)
        scrub(content["config"])
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
        print(file.name, {name: check["wall_time_s"] for name, check in content["checks"].items()})


if __name__ == "__main__":
    main()
