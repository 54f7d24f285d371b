"""Arguments that every command on a finished run takes."""

import argparse
import os
from collections.abc import Sequence

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
    parser.add_argument(
        "--data-root", type=os.path.expanduser,  # as in --data-root=~/x, which shells leave alone
        help="where the run's data set is now, if it has moved",
    )  # fmt: skip
    add_trust_argument(parser)


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add the trusted packages: ``--trust`` may be repeated, and takes several."""
    parser.add_argument(
        "--trust", nargs="+", action="extend", default=[], metavar="PACKAGE",
        help="packages beyond vje_pyro whose classes a run's configuration may name",
    )  # fmt: skip


def take_trust(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages that ``--trust PACKAGE …`` names among overrides, and all other words.

    Example:
        >>> take_trust(["seed=1", "--trust", "mine", "yours", "data=digits", "--trust=theirs"])
        (['mine', 'yours', 'theirs'], ['seed=1', 'data=digits'])
    """
    packages: list[str] = []
    others: list[str] = []
    taking = False
    for word in words:
        if word.startswith("--trust="):
            packages.append(word.removeprefix("--trust="))
        elif word == "--trust":
            taking = True
        elif taking and all(part.isidentifier() for part in word.split(".")):
            packages.append(word)
        else:
            taking = False
            others.append(word)
    return packages, others


def add_results_argument(parser: argparse.ArgumentParser, *more: str, default: str) -> None:
    """Add the folder that results are written to; ``more`` are other names of the option."""
    parser.add_argument(
        "--results", *more, dest="results", metavar="FOLDER", type=os.path.expanduser,
        help=f"folder to write to, where the run's own cannot be written (default: {default})",
    )  # fmt: skip


def load_run(options: argparse.Namespace) -> Representation:
    """Load the run that the arguments name.

    Raises:
        VJEError: If the device is absent.
        CheckpointError: If the run cannot be loaded.
    """
    device = _device(options.device)
    return load(options.run, options.checkpoint, device, options.trust, options.data_root)


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
