"""What is in a set of tar shards: the index that says where each image lies and what its label is.

The index makes a plain tar shard as good as a folder: the length of a data set, its labels and the
place of every image are known before a byte of an image is read. It is made once
(:func:`vje_pyro.data.index_shards`, ``python -m vje_pyro.data index``) and lies beside the shards.
"""

import fnmatch
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vje_pyro.atomic import replacing
from vje_pyro.data.shards import is_remote, join, read_all, webdataset
from vje_pyro.errors import DataError

INDEX_NAME = "index.npz"
"""The index's name where none is given, in the folder of the shards."""

_ARRAYS = ("shards", "starts", "bytes", "offsets", "sizes", "labels", "classes")


@dataclass(frozen=True)
class ShardIndex:
    """Where the images of tar shards lie; samples are numbered through, shard after shard.

    Args:
        root: Folder, or URL of a folder, that the names are relative to.
        shards: Names of the S shards: relative to ``root``, or URLs.
        starts: Number of each shard's first sample, then the number N of all; int64 ``(S + 1,)``.
        bytes: Size of each shard, int64 ``(S,)``.
        offsets: Where in its shard an image begins, int64 ``(N,)``; rising within a shard.
        sizes: Bytes of each image, int64 ``(N,)``.
        labels: int64 ``(N,)``; -1 where there is none.
        classes: Class names in the order of the labels; empty when unknown.
    """

    root: str
    shards: tuple[str, ...]
    starts: NDArray[np.int64]
    bytes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def shard_of(self) -> NDArray[np.int32]:
        """The shard of each sample, int32 ``(N,)``."""
        counts = np.diff(self.starts)
        return np.repeat(np.arange(len(self.shards), dtype=np.int32), counts)

    def location(self, shard: int) -> str:
        """Path or URL of a shard."""
        return join(self.root, self.shards[shard])

    def name(self, sample: int) -> str:
        """The sample's shard and its number there, from 0: ``train-000001.tar#17``."""
        shard = self.shard_of[sample]
        return f"{self.shards[shard]}#{sample - self.starts[shard]}"

    def select(self, pattern: str) -> NDArray[np.int64]:
        """Numbers of the samples of the shards that a pattern names, in order.

        Args:
            pattern: Names as in the index, with braces (``train-{000..127}.tar``) or wildcards
                (``train-*.tar``); several are joined by ``::``.

        Raises:
            DataError: If the pattern matches no shard, or a brace names one that is not there.
        """
        chosen: list[int] = []
        number = {name: place for place, name in enumerate(self.shards)}
        absent = []
        for name in expand(pattern):
            if name in number:
                chosen.append(number[name])
            elif matching := [place for known, place in number.items() if _matches(known, name)]:
                chosen += matching
            else:
                absent.append(name)
        if absent:
            shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" * (len(absent) > 3))
            raise DataError(
                f"the pattern {pattern!r} names {shown}, but the index of {self.root} has no such "
                f"shard; it has {_some(self.shards)}. Correct the pattern, or make the index anew "
                f"where shards were added: python -m vje_pyro.data index {self.root}"
            )
        parts = [np.arange(*self.starts[shard : shard + 2]) for shard in dict.fromkeys(chosen)]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def digest(self, samples: NDArray[np.int64]) -> str:
        """SHA-256 (hex) of the samples' shards, places, sizes and labels."""
        hasher = hashlib.sha256()
        present = np.unique(self.shard_of[samples])
        hasher.update("\0".join(self.shards[shard] for shard in present).encode())
        for values in (samples - self.starts[self.shard_of[samples]], self.sizes, self.labels):
            part = values[samples] if len(values) == len(self) else values
            hasher.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return hasher.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the index, a compressed ``.npz``, whole or not at all.

        Raises:
            WriteError: If the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {name: np.array(getattr(self, name), dtype=str) for name in ("shards", "classes")}
        with replacing(Path(path)) as (file, _):
            np.savez_compressed(file, **arrays)

    @classmethod
    def read(cls, path: str, root: str) -> "ShardIndex":
        """Read an index from a path or URL.

        Args:
            path: The file.
            root: Where the shards are now.

        Raises:
            DataError: If it is absent or damaged.
        """
        if not is_remote(path) and not Path(path).is_file():
            raise DataError(
                f"no index of the shards: {Path(path).absolute()} is not there. Make it once with "
                f"'python -m vje_pyro.data index {root}', or set data.index=FILE"
            )
        try:
            with np.load(io.BytesIO(read_all(path)), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
        except DataError:
            raise
        except Exception as error:  # of the file, the archive, its compression or the arrays
            raise DataError(f"{path}: not a readable index of shards: {error}") from None
        texts = {name: tuple(arrays.pop(name).tolist()) for name in ("shards", "classes")}
        numbers = {name: array.astype(np.int64) for name, array in arrays.items()}
        index = cls(root, texts["shards"], classes=texts["classes"], **numbers)
        index._check(path)
        return index

    def _check(self, path: str) -> None:
        count = len(self.offsets)
        lengths = {len(self.sizes), len(self.labels), int(self.starts[-1])}
        per_shard = len(self.shards), len(self.shards)
        fits = (len(self.bytes), len(self.starts) - 1) == per_shard and lengths == {count}
        if not fits or self.starts[0] != 0 or (np.diff(self.starts) < 0).any():
            raise DataError(
                f"{path}: the parts of the index do not fit together. Make it anew: "
                f"python -m vje_pyro.data index {self.root}"
            )


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for; ``::`` joins several patterns.

    Raises:
        DataError: If the extra is not installed.
    """
    if not re.search(r"[{:$]", pattern):
        return [pattern]
    return list(webdataset("shardlists").expand_urls(pattern))


def _matches(name: str, pattern: str) -> bool:
    # An index may come from a stranger: only a pattern that says so leads to a URL.
    if is_remote(name) and not is_remote(pattern):
        return False
    return any(c in pattern for c in "*?[") and fnmatch.fnmatchcase(name, pattern)


def _some(names: Sequence[str]) -> str:
    if len(names) <= 4:
        return ", ".join(names) or "none"
    return f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)} in all)"
