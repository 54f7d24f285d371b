"""Tar shards of the WebDataset format, in a folder, on a web server or in an object store.

An index says which bytes of which shard are an image, and ``fsspec`` reads them.
"""

import copy
import hashlib
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from fsspec.core import url_to_fs
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.searching import check_limit
from vje_pyro.data.shard_index import ShardIndex
from vje_pyro.data.sources import FileSource
from vje_pyro.errors import DataError


class ShardFiles(ImageFiles):
    """Images of tar shards; those lost at the end of a truncated shard count as damaged.

    Args:
        root: Folder of the shards, or its URL.
        index: Where all images lie.
        chosen: Numbers of the split's images in the index, int64 ``(N,)``.
        decoding: Keyword arguments of ``ImageFiles``.

    Raises:
        DataError: If a shard is absent, or more images than ``max_corrupt`` are lost.
    """

    def __init__(
        self, root: str, index: ShardIndex, chosen: NDArray[np.int64], **decoding: Any
    ) -> None:
        labels, classes = torch.from_numpy(index.labels[chosen]), tuple(index.classes.tolist())
        super().__init__(root, (), labels, classes, **decoding)
        self.index, self.chosen = index, chosen
        self._paths = np.array([f"{root}/{name}" for name in index.shards])
        self._ends = index.offsets + index.sizes
        self._lengths = np.full(len(self._paths), np.nan)  # of shards; NaN where it is not told
        shards = self._shard(chosen)
        present = np.unique(shards)
        try:
            self._lengths[present] = url_to_fs(root)[0].sizes(self._paths[present].tolist())
        except Exception as error:  # of a file system, or of a web server
            raise DataError(_said(error, root)) from None
        lost = np.flatnonzero(self._ends[chosen] > self._lengths[shards])
        check_limit(
            root, {self.name(i): "truncated shard" for i in lost.tolist()}, self.max_corrupt
        )

    def name(self, index: int) -> str:
        """The image's shard and its number there, from 0: ``train-000001.tar#17``."""
        shard = self._shard(self.chosen[index])
        return f"{self.index.shards[shard]}#{self.chosen[index] - self.index.starts[shard]}"

    def contents(self, indices: Sequence[int]) -> list[bytes | CorruptImage]:
        """The bytes of the images' files, fetched at once, or why there are none.

        Raises:
            DataError: If a shard is absent, cannot be read, or is not the one that was indexed.
        """
        images = self.chosen[list(indices)]
        shards = self._shard(images)
        lost = self._ends[images] > self._lengths[shards]
        headers = self.index.offsets[images] - tarfile.BLOCKSIZE
        ranges = self._paths[shards], headers, self._ends[images]
        found = self._read(*(part[~lost].tolist() for part in ranges))
        gone = CorruptImage("truncated shard: it ends before the image does")
        return [gone if cut else next(found) for cut in lost]

    def subset(self, indices: Sequence[int] | Tensor) -> "ShardFiles":
        """The images at ``indices``, in that order; nothing is read."""
        part, places = copy.copy(self), torch.as_tensor(indices, dtype=torch.int64)
        part.chosen, part.labels = self.chosen[places.numpy()], self.labels[places]
        part.corrupt = {}
        return part

    def digest(self) -> str:
        """SHA-256 (hex) of shards, places in them, file sizes and labels."""
        shards = self._shard(self.chosen)
        hasher = hashlib.sha256("\0".join(self.index.shards[np.unique(shards)]).encode())
        places = self.chosen - self.index.starts[shards]
        for values in (places, self.index.sizes[self.chosen], self.index.labels[self.chosen]):
            hasher.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
        return hasher.hexdigest()

    quick_digest = digest

    def _shard(self, images: Any) -> Any:
        return np.searchsorted(self.index.starts, images, "right") - 1

    def _read(self, paths: list[str], starts: list[int], ends: list[int]) -> Iterator[bytes]:
        """Images, each with the header before it held against the index."""
        files = url_to_fs(str(self.root))[0]
        blocks = files.cat_ranges(paths, starts, ends)
        for path, start, end, block in zip(paths, starts, ends, blocks, strict=True):
            for pause in (1, 2):  # where a connection broke
                if isinstance(block, Exception) and not isinstance(block, FileNotFoundError):
                    time.sleep(pause)
                    (block,) = files.cat_ranges([path], [start], [end])
            if isinstance(block, Exception):
                raise DataError(_said(block, path))
            header, content = block[: tarfile.BLOCKSIZE], block[tarfile.BLOCKSIZE :]
            size = -1
            with suppress(tarfile.HeaderError):
                size = tarfile.TarInfo.frombuf(header, "utf-8", "replace").size
            if not size == len(content) == end - start - tarfile.BLOCKSIZE:
                raise DataError(
                    f"{path} is not the shard that the index was made from, or its server does "
                    "not send parts of files. Make the index again: vje shards index FOLDER"
                )
            yield content


@dataclass(eq=False, repr=False)
class WebDataset(FileSource):
    """Images in plain tar shards, with an index that ``vje shards index`` makes.

    Args:
        root: Folder of the shards, or its URL (``https://…``, ``s3://…``, ``gs://…``).
        pretrain: Pattern of the shards to train on (``ShardIndex.select``).
        train: Pattern of the labelled training images; null: ``pretrain``.
        val: Pattern of validation images; null: none.
        test: Pattern of test images; null: ``val``.
        index: The index, below ``root`` or a URL of its own.

    Source: the format of A. Aizman, G. Maltby, T. Breuel, High Performance I/O For Large Scale Deep
    Learning, IEEE Big Data 2019.
    """

    root: str
    pretrain: str
    train: str | None = None
    val: str | None = None
    test: str | None = None
    index: str = "index.npz"

    name = "webdataset"

    def __post_init__(self) -> None:
        super().__post_init__()
        patterns = {"pretrain": self.pretrain, "train": self.train or self.pretrain}
        patterns |= {"val": self.val or "", "test": self.test or self.val or ""}
        self.splits = {name: pattern for name, pattern in patterns.items() if pattern}

    @cached_property
    def _index(self) -> ShardIndex:
        own = "://" in self.index
        return ShardIndex.read(self.index if own else os.path.join(self.root, self.index))

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of classes, by name or else by the greatest label."""
        return len(self._index.classes) or int(self._index.labels.max(initial=-1)) + 1

    def _load(self, stored: str) -> ShardFiles:
        chosen = self._index.select(stored)
        if not len(chosen):
            raise DataError(f"the shards {stored} of {self.root} hold no images")
        return ShardFiles(self.root, self._index, chosen, **self.decoding())

    def _chosen(self, labels: Tensor, part: slice) -> Tensor:
        return super()._chosen(labels, part).sort().values  # as they are stored


def _said(error: Exception, path: str = "") -> str:
    if isinstance(error, FileNotFoundError):
        where = error.filename or error
        return f"missing shard {where}: restore it, or remove it from the pattern"
    extra = " (pip install 'vje-pyro[shards]')" if isinstance(error, ImportError) else ""
    return f"cannot read {path}: {type(error).__name__}: {error}{extra}"
