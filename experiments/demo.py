"""Train, evaluate and show VJE on scikit-learn's digits: ``vje demo``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra import compose, initialize_config_dir

from vje_pyro.experiments.arguments import take_trust
from vje_pyro.experiments.evaluate import evaluate_run, print_results
from vje_pyro.experiments.pretrain import CONFIG_DIR, train
from vje_pyro.report import write_report
from vje_pyro.run import load


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate beside raw pixels, write the report, print a table and the report's path."""
    parser = argparse.ArgumentParser(prog="vje demo", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for vje train experiment=digits")
    trust, words = take_trust(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run_dir = Path("runs") / "demo" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [f"run_dir={run_dir}", *options.overrides])
    run_dir = Path(config.run_dir)
    train(config, run_dir)
    run = load(run_dir, trust=[*config.trust, *trust])
    results = evaluate_run(run) + evaluate_run(run, features="pixels")
    print()
    print_results(results)
    print(f"\nreport: {write_report(run).resolve()}")
