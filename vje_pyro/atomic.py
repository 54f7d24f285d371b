"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vje_pyro.errors import WriteError

SUFFIX = ".tmp"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) beside ``path``, force it to disk, rename it into place.

    A crash at any moment leaves either the old file or the new one, never a mixture.

    Raises:
        WriteError: The directory is missing or not writable, or the disk is full. The file that
            was there before is untouched.
    """
    data = data.encode() if isinstance(data, str) else data
    partial = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        _remove_quietly(partial)
        raise WriteError(
            f"Cannot write {path} ({len(data):,} bytes): {error.strerror or error}. "
            "What was there before is untouched. Free some space or make the directory writable, "
            "then resume the run or give the command again."
        ) from error


def leftovers(directory: Path) -> Iterator[Path]:
    """Partial files that a killed process left in ``directory``."""
    return directory.glob(f".*{SUFFIX}")


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable (POSIX; elsewhere a directory cannot be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
