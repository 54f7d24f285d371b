"""A split in tar shards: images that are read when they are asked for."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.searching import check_limit
from vje_pyro.data.shard_index import ShardIndex
from vje_pyro.data.shards import Shard, Truncated, is_remote, join
from vje_pyro.data.value_ranges import ValueRange

_SPREAD = 16  # shards that a few images are drawn from at least


class ShardFiles(ImageFiles):
    """Images of tar shards, of which an index is known.

    It is used as :class:`~vje_pyro.data.ImageFiles` is. From shards in files any image is read in
    one go; from those behind URLs each image costs what lies between it and the one read before,
    so read them in order.

    Args:
        index: Where all images lie.
        samples: Numbers of the split's images in the index, int64 ``(N,)``.
        image_size: Height and width of ``tensor(i)`` in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: As for ``ImageFiles``.
        max_corrupt: Damaged or lost images that are skipped before giving up.
        value_range: As for ``ImageFiles``.
        streams: Parts of a batch that :class:`~vje_pyro.data.ShardLoader` reads side by side.
        shuffle_buffer: Images it shuffles among.
    """

    def __init__(
        self,
        index: ShardIndex,
        samples: NDArray[np.int64],
        *,
        image_size: int,
        channels: int = 3,
        crop_fraction: float = 1.0,
        max_corrupt: int = 10,
        value_range: ValueRange | None = None,
        streams: int | None = None,
        shuffle_buffer: int = 8192,
    ) -> None:
        super().__init__(
            index.root,
            _Names(index, samples),
            torch.from_numpy(index.labels[samples]),
            index.classes,
            image_size=image_size,
            channels=channels,
            crop_fraction=crop_fraction,
            max_corrupt=max_corrupt,
            value_range=value_range,
        )
        self.index, self.samples = index, samples
        self.streams, self.shuffle_buffer = streams, shuffle_buffer
        self._open: Shard | None = None

    def location(self, index: int) -> str:
        """Where an image is: its shard and its number there."""
        return join(self.index.root, self.names[index])

    def content(self, index: int) -> bytes:
        """The bytes of an image's file.

        Raises:
            CorruptImage: If the shard ends before.
            DataError: If the shard is absent or not the one that was indexed.
        """
        sample = int(self.samples[index])
        offset, size = int(self.index.offsets[sample]), int(self.index.sizes[sample])
        location = self.index.location(int(self.index.shard_of[sample]))
        shard = self._open
        if shard is None or shard.location != location or not shard.reaches(offset):
            if shard is not None:
                shard.close()
            shard = self._open = Shard(location)
        try:
            return shard.read(offset, size)
        except Truncated:
            assert shard.length is not None
            raise CorruptImage(self._truncation(sample, shard.length)) from None

    def subset(self, indices: Sequence[int] | Tensor) -> "ShardFiles":
        """The images at ``indices``, in that order; nothing is read."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ShardFiles(
            self.index,
            self.samples[chosen.numpy()],
            image_size=self.image_size,
            channels=self.channels,
            crop_fraction=self.crop_fraction,
            max_corrupt=self.max_corrupt,
            value_range=self.value_range,
            streams=self.streams,
            shuffle_buffer=self.shuffle_buffer,
        )

    def draw(self, count: int, seed: int) -> "ShardFiles":
        """Some images at random, of few shards (16, or as many as ``count`` images need)."""
        random = np.random.default_rng(seed)
        shards = self.index.shard_of[self.samples]
        present = random.permutation(np.unique(shards))
        sizes = np.bincount(shards, minlength=len(self.index.shards))[present].cumsum()
        enough = int(np.searchsorted(sizes, count)) + 1
        places = np.flatnonzero(np.isin(shards, present[: max(_SPREAD, enough)]))
        chosen = random.permutation(places)[:count]
        return self.subset(np.sort(chosen).tolist())

    def digest(self) -> str:
        """SHA-256 (hex) of shards, places in them, file sizes and labels."""
        return self.index.digest(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}  # an open shard belongs to one process

    def check(self) -> None:
        """Look for absent and truncated shards, as far as they are files.

        Raises:
            DataError: If a shard is absent, or more images than ``max_corrupt`` are lost.
        """
        lost: dict[str, str] = {}
        shards = self.index.shard_of[self.samples]
        for number in np.unique(shards).tolist():
            location = self.index.location(number)
            if is_remote(location):
                continue
            if not os.path.isfile(location):
                Shard(location).close()  # says what is wrong
            length = os.path.getsize(location)
            if length >= self.index.bytes[number]:
                continue
            here = self.samples[shards == number]
            ends = self.index.offsets[here] + self.index.sizes[here]
            lost |= {
                self.index.name(sample): self._truncation(sample, length)
                for sample in here[ends > length].tolist()
            }
        check_limit(self.root, lost, self.max_corrupt)

    def _truncation(self, sample: int, length: int) -> str:
        """What to say of a sample that lies beyond the end of its shard."""
        shard = int(self.index.shard_of[sample])
        first, stop = self.index.starts[shard : shard + 2].tolist()
        ends = self.index.offsets[first:stop] + self.index.sizes[first:stop]
        whole = int((ends <= length).sum())
        last = (
            f"the last whole image is {self.index.name(first + whole - 1)}"
            if whole
            else ("no image is whole")
        )
        return (
            f"truncated shard {self.index.location(shard)}: {length} of {self.index.bytes[shard]} "
            f"bytes, {last}"
        )


class _Names(Sequence[str]):
    """Names of samples, made when they are asked for."""

    def __init__(self, known: ShardIndex, samples: NDArray[np.int64]) -> None:
        self.known, self.samples = known, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: Any) -> Any:
        return self.known.name(int(self.samples[place]))

    def __iter__(self) -> Iterator[str]:
        return (self.known.name(int(sample)) for sample in self.samples)
