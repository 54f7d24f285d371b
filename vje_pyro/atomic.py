"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from vje_pyro.errors import WriteError

SUFFIX = ".tmp"

# Never through a link, and (elsewhere than on POSIX) in binary.
FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` beside ``path``, force it to disk, rename it into place.

    Text is written as UTF-8; what that has no bytes for (undecodable names of files) is escaped.
    A crash at any moment leaves either the old file or the new one, never a mixture.

    Raises:
        WriteError: The directory is missing or not writable, or the disk is full. The file that
            was there before is untouched.
    """
    data = data.encode(errors="backslashreplace") if isinstance(data, str) else data
    with replacing(path, len(data)) as (file, _):
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, size: int | None = None) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside ``path`` that takes its place when the block ends well.

    Args:
        path: The file to write.
        size: Bytes that it will have, for the message of an error.

    Yields:
        The new file, open to be written, and its path for a library that opens it itself.

    Raises:
        WriteError: See :func:`write_atomic`.
    """
    # Nobody can foresee the name, and what is there already is never written through.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{SUFFIX}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o666)
        with open(descriptor, "wb") as file:
            yield file, partial
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        _remove_quietly(partial)
        bytes_ = "" if size is None else f" ({size:,} bytes)"
        raise WriteError(
            f"Cannot write {path}{bytes_}: {error.strerror or error}. "
            "The old content is untouched. Free some space or make the directory writable, "
            "then resume the run or repeat the command."
        ) from error
    except BaseException:
        _remove_quietly(partial)
        raise


def open_to_append(path: Path) -> TextIO:
    """Open a text file to write on at its end, new where there is none.

    Raises:
        WriteError: It cannot be written, or is a link.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS, 0o666)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise WriteError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or make the "
            "directory writable."
        ) from error


def make_folder(path: Path) -> None:
    """Make a directory and those above it, where they are not there yet.

    Raises:
        WriteError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"Cannot make the folder {path}: {error.strerror or error}. Choose one that is "
            "writable."
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
