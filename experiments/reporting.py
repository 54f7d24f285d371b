"""Errors as a user of the command line sees them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vje_pyro.errors import VJEError


@contextmanager
def reported() -> Iterator[None]:
    """Turn a user's error into one line and exit code 2, an interruption into 130 (or 143)."""
    try:
        yield
    except VJEError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(getattr(interrupt, "exit_code", 130))
