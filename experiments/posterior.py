"""Fit the joint posterior of a run and check it: ``vje posterior RUN``.

One latent generates all views of an image (vje_pyro.models.ManyViews). Model and guide are fitted
to embeddings of the training images' views, and kept in the run for run.joint_posterior(images).
The checks, on images that it was not fitted to, are ``RUN/results/many-views-v1.json``.
"""

import argparse
from collections.abc import Sequence

from vje_pyro.errors import explained
from vje_pyro.experiments.arguments import add_results_argument, add_run_arguments, load_run
from vje_pyro.experiments.evaluate import print_results
from vje_pyro.experiments.partial import output_folder
from vje_pyro.joint_posterior import (
    NUM_LATENTS,
    PROTOCOL,
    check_joint_posterior,
    fit_joint_posterior,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, fit and check."""
    parser = argparse.ArgumentParser(prog="vje posterior", description=__doc__)
    add_run_arguments(parser)
    parser.add_argument(
        "--images", type=int, default=10_000, help="training images, at most (default: 10000)"
    )
    parser.add_argument(
        "--latents", type=int, default=NUM_LATENTS, help=f"dimension of z (default: {NUM_LATENTS})"
    )
    parser.add_argument("--steps", type=int, default=400, help="of Adam (default: 400)")
    parser.add_argument("--split", default="test", help="that the checks look at (default: test)")
    parser.add_argument("--seed", type=int, default=0)
    add_results_argument(parser, default="RUN/results")
    options = parser.parse_args(arguments)
    run = load_run(options)
    folder = output_folder(run.path / "results", options.results)
    with explained("the joint posterior cannot be fitted"):
        fit_joint_posterior(
            run, options.images, options.latents, options.seed, num_steps=options.steps
        )
    result = check_joint_posterior(run, options.split, seed=options.seed)
    result.write(folder / f"{PROTOCOL}.json")
    print_results([result])
    print(f"results in {folder}")
