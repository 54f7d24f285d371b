"""The command line in this process, and a run that takes seconds."""

import logging
import sys

from vje_pyro import cli

TINY = (
    "experiment=digits",
    "training.epochs=2",
    "encoder.widths=[8,16]",
    "encoder.stem_width=8",
    "guide.hidden_features=16",
    "monitor.bank=200",
    "monitor.queries=50",
)


def run_cli(*arguments):
    """Run ``vje ARGUMENTS`` in this process; gives the exit code."""
    argv, root = sys.argv, logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.argv = ["vje", *map(str, arguments)]
    try:
        cli.main()
        return 0
    except SystemExit as stop:
        return stop.code or 0
    finally:  # Hydra sets up logging anew
        sys.argv = argv
        root.handlers[:] = handlers
        root.setLevel(level)
