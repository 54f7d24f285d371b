"""Errors as a user of the command line sees them."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vje_pyro.errors import VJEError


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
        return f"the system refuses: {lines[0]}"
    return f"this machine has not enough memory or files for it: {lines[0]}"
