"""A command that does what can be done; the rest is skipped and named, with exit code 3."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vje_pyro.atomic import make_folder
from vje_pyro.errors import LeftOut, VJEError, WriteError, first_line

T = TypeVar("T")


@contextmanager
def attempted(job: Callable[[], T]) -> Iterator[T]:
    """What a job did; after the block, which shows it, :class:`LeftOut` where something is."""
    try:
        results, left_out = job(), None
    except LeftOut as error:
        results, left_out = error.results, error
    yield results
    if left_out is not None:
        raise left_out


class Parts:
    """The parts of a job, each of which may fail for itself.

    Example:
        >>> parts = Parts()
        >>> for name, text in (("a", "1"), ("b", "x")):
        ...     with parts.part(name):
        ...         print(name, int(text))
        a 1
        >>> parts.left_out
        {'b': "invalid literal for int() with base 10: 'x'"}
    """

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Whatever fails in the block leaves the part out."""
        try:
            yield
        except WriteError:
            raise  # what can be done cannot be kept
        except Exception as error:
            self.left_out[name] = first_line(error)

    def finish(self, results: Any) -> None:
        """Name what was left out.

        Args:
            results: What was done; nothing, if it is empty.

        Raises:
            LeftOut: If a part was left out and another done.
            VJEError: If nothing was done.
        """
        if not self.left_out:
            return
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            by_reason.setdefault(reason, []).append(name)
        said = "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())
        if results:
            raise LeftOut(f"left out: {said}", results)
        raise VJEError(f"nothing could be done: {said}")


def output_folder(default: Path, chosen: str | Path | None) -> Path:
    """The folder for results, made if need be.

    Raises:
        WriteError: If it cannot be written.
    """
    folder = default if chosen is None else Path(chosen)
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK):
            raise WriteError(f"Cannot write in {folder}: it is read-only.")
    except WriteError as error:
        raise WriteError(f"{error} Choose another folder with --results FOLDER.") from error
    return folder
