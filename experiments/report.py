"""Write the HTML report of a run: ``vje report RUN``."""

import argparse
from collections.abc import Sequence

from vje_pyro.experiments.arguments import add_run_arguments, load_run
from vje_pyro.report import write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the report."""
    parser = argparse.ArgumentParser(prog="vje report", description=__doc__)
    add_run_arguments(parser)
    parser.add_argument("--out", help="file to write; RUN/report.html by default")
    options = parser.parse_args(arguments)
    print(write_report(load_run(options), options.out))
