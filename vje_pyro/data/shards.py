"""Bytes of tar shards, from files and from URLs.

A shard in a file is read at any place. One behind a URL is a stream, read forwards once: the
``webdataset`` library starts the program that fetches it (``curl`` for http and https, ``gsutil``
for gs, a command of the user's for ``pipe:``).
"""

import importlib
import os
import re
import tarfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from vje_pyro.data.decoding import CorruptImage
from vje_pyro.errors import DataError

BLOCK = tarfile.BLOCKSIZE
ALLOW_PIPE = "VJE_ALLOW_PIPE"
"""Environment variable that permits ``pipe:`` (a configuration may come from a stranger)."""

_PIECE = 1 << 20  # bytes read at a time where a stream is skipped
_ATTEMPTS = 3  # times that a stream which broke off is fetched anew


class Truncated(CorruptImage):
    """A shard ends before the image that was asked for."""


def is_remote(location: str | Path) -> bool:
    """Whether a location is a URL (``https:``, ``pipe:`` …) and not a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:(?!:)", str(location)) is not None


def join(root: str, name: str) -> str:
    """A name in a folder or below a URL; absolute paths and URLs stay as they are."""
    if is_remote(name) or not root:
        return name
    return f"{root.rstrip('/')}/{name}" if is_remote(root) else str(Path(root) / name)


def webdataset(part: str) -> ModuleType:
    """A module of the ``webdataset`` library.

    Raises:
        DataError: If it is not installed.
    """
    try:
        return importlib.import_module(f"webdataset.{part}")
    except ImportError:
        raise DataError(
            "tar shards are read with the webdataset library: pip install 'vje-pyro[webdataset]'"
        ) from None


def open_stream(url: str) -> Any:
    """A URL as a binary stream.

    Raises:
        DataError: If nothing can open such a URL, or it runs a command and that is not permitted.
    """
    if url.startswith("pipe:") and os.environ.get(ALLOW_PIPE) != "1":
        raise DataError(
            f"{url!r} runs a shell command; where you trust it, set the environment variable "
            f"{ALLOW_PIPE}=1"
        )
    gopen = webdataset("gopen")
    try:
        stream = gopen.gopen(url)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"cannot open {url}: {error}") from None
    gopen.set_options(stream, ignore_errors=True)  # the exit status is looked at where it matters
    return stream


def read_all(location: str) -> bytes:
    """The whole content of a small file or URL.

    Raises:
        DataError: If it cannot be fetched.
        OSError: If it is a file that cannot be read.
    """
    if not is_remote(location):
        return Path(location).read_bytes()
    stream = open_stream(location)
    try:
        content: bytes = stream.read()
        if not content:
            raise DataError(f"cannot read {location}: nothing came ({exit_status(stream)})")
        return content
    finally:
        stream.close()


def exit_status(stream: Any) -> str:
    """How the program behind a stream ended, in words; empty where it did not fail."""
    process = getattr(stream, "proc", None)
    status = process.wait() if process is not None else 0
    hint = {22: ", as curl does for a missing file"}.get(status, "")
    return f"the program that reads it exited with status {status}{hint}" if status else ""


class Shard:
    """One open shard.

    Args:
        location: Path or URL.

    Raises:
        DataError: If it is absent or cannot be opened.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.pid = os.getpid()  # a stream must not be read on by a forked process
        self.position = 0
        """Bytes that have gone by."""
        self.length: int | None = None
        """Bytes in the shard, once known."""
        self._stream: Any = None
        self._file = -1
        if is_remote(location):
            self._stream = open_stream(location)
            return
        try:
            self._file = os.open(location, os.O_RDONLY)
        except OSError as error:
            raise DataError(
                f"missing shard {Path(location).absolute()}: {error.strerror}. Bring it back, or "
                "leave it out of the pattern"
            ) from None
        self.length = os.fstat(self._file).st_size

    def reaches(self, offset: int) -> bool:
        """Whether an image can still be read here."""
        return self.pid == os.getpid() and (self._stream is None or offset - BLOCK >= self.position)

    def read(self, offset: int, size: int) -> bytes:
        """An image and the header before it, which is held against what the index says.

        Args:
            offset: Where the image begins; in a stream not before what was read last.
            size: Its bytes.

        Raises:
            Truncated: If the shard ends before.
            DataError: If there is no such image at this place, or nothing could be fetched.
        """
        content = self._bytes(offset - BLOCK, BLOCK + size)
        header = content[:BLOCK]
        if len(content) < BLOCK + size:
            raise Truncated(f"{self.location} ends at byte {self.length}")
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
        except tarfile.HeaderError:
            found = -1
        if found != size:
            raise DataError(
                f"{self.location} is not the shard that the index was made of: no image of {size} "
                f"bytes begins at byte {offset}. Make the index anew: python -m vje_pyro.data index"
            )
        return content[BLOCK:]

    def close(self) -> None:
        """Release the file, or end the program behind the stream."""
        if self._stream is not None:
            if self.pid == os.getpid():
                self._stream.close()
            self._stream = None
        elif self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()

    def _bytes(self, start: int, count: int) -> bytes:
        if self._stream is None:
            return os.pread(self._file, count, start)
        for attempt in range(1, _ATTEMPTS + 1):
            content = self._forward(start, count)
            if len(content) == count:
                return content
            trouble = exit_status(self._stream)
            if not self.position:
                raise DataError(f"cannot read {self.location}: nothing came ({trouble})")
            if not trouble or attempt == _ATTEMPTS:
                break
            time.sleep(attempt)  # the connection broke: once more from the start
            self._stream.close()
            self._stream, self.position = open_stream(self.location), 0
        self.length = self.position
        return content

    def _forward(self, start: int, count: int) -> bytes:
        while self.position < start:
            skipped = len(self._stream.read(min(_PIECE, start - self.position)))
            if not skipped:
                return b""
            self.position += skipped
        content: bytes = self._stream.read(count)
        self.position += len(content)
        return content
