"""Errors that a user can mend: each says what was wrong, the value, and the way out."""

from collections.abc import Iterator
from contextlib import contextmanager


class VJEError(Exception):
    """Base of every error meant for the user; the command line prints it without a traceback."""

    exit_code = 2


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn any error of the block into a :class:`VJEError` of one line that begins with ``what``.

    For blocks that run what a configuration names: any class, with any arguments.

    Raises:
        VJEError: With the other error as its cause.

    Example:
        >>> with explained("the encoder cannot be made"):
        ...     int("x")
        Traceback (most recent call last):
        vje_pyro.errors.VJEError: the encoder cannot be made: invalid literal for int() with ...
    """
    try:
        yield
    except VJEError:
        raise
    except Exception as error:
        raise VJEError(f"{what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """An error as one line; with its class where it would say little without.

    Example:
        >>> first_line(KeyError("split")), first_line(MemoryError())
        ("KeyError: 'split'", 'MemoryError')
    """
    lines, name = str(error).strip().splitlines(), type(error).__name__
    if not lines:
        return name
    speaks = not isinstance(error, LookupError | TypeError | AttributeError | AssertionError)
    return lines[0] if speaks else f"{name}: {lines[0]}"


class DataError(VJEError):
    """A data set, folder or image that cannot be used as asked."""


class CheckpointError(VJEError):
    """A checkpoint or run directory that is missing, damaged, foreign or already in use."""


class WriteError(CheckpointError):
    """A file could not be written; what was there before is untouched."""


class NonFiniteError(VJEError):
    """A loss term became NaN or infinite during training."""
