"""Arguments that every command on a finished run takes."""

import argparse

import torch

from vje_pyro.errors import VJEError
from vje_pyro.run import Representation, load


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the checkpoint, the device, the data root and the trusted packages."""
    parser.add_argument("run", help="run directory, as vje train printed it")
    parser.add_argument(
        "--checkpoint", default="last", help="last (default), best, epoch_0010, or a path"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--data-root", help="where the run's data set is now, if it has moved")
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="PACKAGE",
        help="packages beyond vje_pyro whose classes the run's configuration may name",
    )  # fmt: skip


def load_run(options: argparse.Namespace) -> Representation:
    """Load the run that the arguments name.

    Raises:
        VJEError: If the device is absent.
        CheckpointError: If the run cannot be loaded.
    """
    run = load(options.run, options.checkpoint, _device(options.device), options.trust)
    if options.data_root is not None:
        run.use_data_root(options.data_root)
    return run


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise VJEError(
            f"device {name!r} cannot be used here: {error}. Try --device cpu."
        ) from error
    return name
