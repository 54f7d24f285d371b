"""``vje demo``."""

import logging
import sys
from datetime import datetime
from pathlib import Path

from vje_pyro.experiments.common import Packages, print_results, split_trust
from vje_pyro.experiments.train import Words


def main(*overrides: Words, trust: Packages = ()) -> None:
    """Train, evaluate and show VJE on scikit-learn's digits, in a few minutes.

    The command compares VJE with raw pixels and writes the report.

    Examples::

        vje demo
        vje demo training.epochs=20

    Args:
        overrides: Overrides as for vje train.
    """
    packages, words = split_trust(trust, overrides)
    from vje_pyro.report import write_report
    from vje_pyro.verbs.evaluate import evaluate
    from vje_pyro.verbs.train import train

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run_dir = Path("runs") / "demo" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    run = train("digits", overrides=[f"run_dir={run_dir}", *words], trust=packages)
    results = evaluate(run) + evaluate(run, features="pixels")
    print()
    print_results(results)
    print(f"\nreport: {write_report(run).resolve()}")
