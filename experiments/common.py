"""What several commands share: options of a finished run, errors as users see them, figures."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from vje_pyro.errors import VJEError, for_user
from vje_pyro.training.run_dir import RunDir

if TYPE_CHECKING:
    from vje_pyro.evaluation import Result
    from vje_pyro.run import Representation


def _home(_: Any, tokens: Sequence[Any]) -> str:
    return os.path.expanduser(tokens[0].value)  # as in --out=~/x, which shells leave alone


Place = Annotated[str, Parameter(converter=_home)]
"""A file or folder; ~ is the home folder."""

Run = Annotated[Place, Parameter(help="Run directory that vje train printed.")]

Results = Annotated[
    str | None,
    Parameter(
        converter=_home,
        help="Folder for results, if the run directory cannot be written.",
    ),
]

Packages = Annotated[
    tuple[str, ...],
    Parameter(help="Packages whose classes the configuration of a run may name, besides vje_pyro."),
]


@dataclass(frozen=True, kw_only=True)
class _Where:
    checkpoint: str = "last"
    """last, best, epoch_0010, or a path."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    data_root: Annotated[str | None, Parameter(converter=_home)] = None
    """Folder of the run's data set, if it has moved."""

    trust: Packages = ()

    def load(self, run: str) -> "Representation":
        """Load the run.

        Raises:
            VJEError: If the device is absent.
            CheckpointError: If the run cannot be loaded.
        """
        RunDir(run).require()
        from vje_pyro.run import load

        device = _device(self.device)
        return load(run, self.checkpoint, device, self.trust, self.data_root)


Where = Annotated[_Where, Parameter(name="*", group=Group("The run", sort_key=10))]
"""Which checkpoint of a run, and where it computes."""

HERE = _Where()


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise VJEError(
            f"device {name!r} cannot be used here: {error}. Try --device cpu."
        ) from error
    return name


def split_trust(packages: Sequence[str], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages that follow ``--trust``, and all other words.

    Example:
        >>> split_trust(["mine", "my.other", "data=digits"], ["seed=1"])
        (['mine', 'my.other'], ['seed=1', 'data=digits'])
    """
    names = [p for p in packages if all(part.isidentifier() for part in p.split("."))]
    return names, [*words, *(p for p in packages if p not in names)]


def quiet() -> None:
    """Show warnings alone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def print_results(results: Iterable["Result"]) -> None:
    """A line per figure, with its interval."""
    from vje_pyro.statistics import show

    for result in results:
        for name, figure in result.figures.items():
            print(
                f"{result.method:10} {result.features:10} {result.protocol:14} {name:29} "
                f"{show(figure, '.4f')}  {figure.interval}"
            )


@contextmanager
def reported() -> Iterator[None]:
    """Turn a user's error into one line and exit code 2, an interruption into 130 (or 143).

    So is what the machine refuses: files that cannot be read or written, memory, disk space.
    """
    try:
        yield
    except Exception as error:
        words = for_user(error)
        if words is None:
            raise
        print(f"error: {words}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, VJEError) else 2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(getattr(interrupt, "exit_code", 130))
