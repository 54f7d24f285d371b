"""Array files, ``.npy`` and ``.npz``, whose headers are checked before memory is allocated.

Refused are headers that describe more data than the file holds or than fits in memory, archives
that expand a thousandfold, and Python objects, which would have to be unpickled.
"""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from vje_pyro.data.decoding import open_file, printable
from vje_pyro.errors import DataError

_EXPANSION = 500
"""Times that a member of more than ``_SMALL`` bytes may unfold (deflate reaches 1032)."""
_SMALL = 1 << 24
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of an archive by name, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive, self._size = archive, size
        self._members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        member = self._members[name]
        packed, size = member.compress_size, member.file_size
        times = size / max(1, packed)
        if packed > self._size or (size > _SMALL and times > _EXPANSION):
            raise ValueError(f"{member.filename} expands {times:.0f}-fold to {size:,} bytes")
        with self._archive.open(member) as stream:
            return _read(stream, size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextmanager
def open_arrays(path: str | Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a ``.npz`` file by name, or that of a ``.npy`` file, whose name is empty.

    Raises:
        DataError: If it cannot be read or is damaged, or an array that is asked for holds Python
            objects, or promises more bytes than there are or than this machine's memory.
    """
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield Arrays(archive, size)
            else:
                file.seek(0)
                yield {"": _read(file, size)}
    except Exception as error:  # of the file, the archive, its compression or the array
        reason = str(error) or type(error).__name__
        raise DataError(f"{printable(str(path))}: not a readable array file: {reason}") from None


def _read(stream: IO[bytes], size: int) -> np.ndarray:
    """The array in a stream of ``size`` bytes; a ValueError if its header does not fit."""
    start = stream.tell()
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"it holds Python objects (dtype {dtype})")
    promised, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or promised > there:
        raise ValueError(
            f"the header describes {promised:,} bytes (shape {shape}), but the file has {there:,}"
        )
    if promised > (memory := _memory()):
        raise ValueError(f"{promised:,} bytes are more than this machine's memory ({memory:,})")
    stream.seek(start)
    array: Any = npy.read_array(stream, allow_pickle=False)
    return np.asarray(array)


def _memory() -> float:
    """Bytes of physical memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
