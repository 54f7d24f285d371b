"""Errors that a user can mend: each says what was wrong, the value, and the way out."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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


class LeftOut(VJEError):
    """Some of what was asked for could not be done; all else is done and written.

    ``results`` is what the function would have returned.
    """

    exit_code = 3

    def __init__(self, message: str, results: Any = None) -> None:
        super().__init__(message)
        self.results = results


class NonFiniteError(VJEError):
    """A loss term became NaN or infinite during training."""


@contextmanager
def for_users() -> Iterator[None]:
    """Turn what the machine refuses into a :class:`VJEError`, which passes between processes."""
    try:
        yield
    except Exception as error:
        words = for_user(error)
        if words is None or isinstance(error, VJEError):
            raise
        raise VJEError(words) from error


def for_user(error: Exception) -> str | None:
    """What a user is told of an error; None of one that is a fault of the program."""
    if isinstance(error, VJEError):
        return str(error)
    if isinstance(error, OSError | MemoryError):
        return _refusal(error)
    return _refusal(error) if _is_shortage(error) else None


# The words for them in errors of torch and of the loader, which have one class for all.
_SHORTAGES = [
    os.strerror(number)
    for number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
]

_OF_MEMORY = ("out of memory", "allocate memory", "failed to map segment")


def _is_shortage(error: Exception) -> bool:
    return any(words in str(error) for words in (*_SHORTAGES, *_OF_MEMORY))


def _refusal(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, OSError):
        return f"the operating system refuses: {lines[0]}"
    return f"this machine does not have enough memory or file handles for it: {lines[0]}"
