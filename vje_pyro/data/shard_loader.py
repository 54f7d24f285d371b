"""Batches from tar shards that are read from front to back, the same however many read them.

An epoch puts the shards in random order and cuts their images, taken as one row, into L streams of
equal length. A stream is read in order and shuffled within a window; each step takes the same
number of images from each. Shards, streams and shuffle depend on (seed, epoch) alone, and the
index says where each image lies, so

- processes and workers share out the streams, and the batches are the same for every number of
  them that divides L;
- each process makes the same number of steps, and each image comes at most once in an epoch: what
  is short of a whole batch is left out, other images in each epoch;
- a run that goes on inside an epoch opens the right shards at once, and reads again at most the
  window.
"""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vje_pyro.data.decoding import CorruptImage, decode
from vje_pyro.data.loaders import ORDER, Cropper, Device, Plan, blank, release_in_order
from vje_pyro.data.shard_files import ShardFiles
from vje_pyro.data.views import Views
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

_MOST_STREAMS = 64  # where their number is not given

_Chunk = tuple[Tensor, Tensor, list[tuple[int, str]]]


class ShardLoader:
    """Batches of random crops of images in tar shards.

    The number of streams is ``data.streams``, or else the greatest divisor of the batch size that
    exceeds neither the number of shards nor 64. The crops of an image depend only on (seed, epoch,
    index). A damaged image is replaced by the next good one that its stream gives to the batch (a
    black one where there is none), and counted (``ShardFiles.note_corrupt``).

    Args:
        data: The split.
        batch_size: Images of a step, over all processes.
        views: The views that ``views.from_crops`` will finish; it gives the number of crops, their
            size, area and aspect ratio.
        seed: Seed of order and crops.
        device: Where batches are moved to.
        num_workers: Worker processes; 0 works in this one. Of more than there are streams for,
            some are left out.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        DataError: If there are fewer images than one batch, fewer shards than worker processes, or
            the streams cannot be shared equally.
        ValueError: If the batch cannot be shared equally.
    """

    def __init__(
        self,
        data: ShardFiles,
        batch_size: int,
        *,
        views: Views,
        seed: int,
        device: Device = "cpu",
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._plan = _StreamPlan(data, batch_size, seed, rank, world_size)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.data, self.labels = data, data.labels
        self.device = torch.device(device)
        readers = max(1, num_workers)
        _check_shards(len(np.unique(data.index.shard_of[data.samples])), world_size, readers)
        self.slots = _greatest_divisor(self._plan.streams // world_size, readers)
        """Worker processes that read, each some of the streams."""
        if self.slots < readers:
            logger.warning(
                "%d of %d workers have no stream to read: data.streams=%d, a multiple of processes "
                "× workers that divides the batch size, would use all",
                readers - self.slots,
                readers,
                world_size * readers,
            )
        self._keys = _Keys(self.slots)
        self._loader = DataLoader(
            _Slots(data, self._plan, self.slots, Cropper(views, seed)),
            batch_size=None,  # an item is a worker's share of a step
            sampler=self._keys,
            num_workers=self.slots if num_workers else 0,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )
        release_in_order(self, self._loader)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``start_step`` … of an epoch.

        Yields:
            ``(crops, indices)``: uint8 ``(b, V, C, S, S)`` and int64 ``(b,)``, with
            b = batch_size / world_size.

        Raises:
            DataError: If a shard is absent, or more images are damaged than ``data.max_corrupt``.
        """
        self._plan.check_start(start_step)
        self._keys.epoch, self._keys.steps = epoch, range(start_step, self.steps_per_epoch)
        chunks = iter(self._loader)
        for parts in zip(*[chunks] * self.slots, strict=False):  # one of each worker
            for part in parts:
                if isinstance(part, DataError):
                    raise DataError(str(part))  # a new one: else frame and error hold each other
                for index, reason in part[2]:
                    self.data.note_corrupt(index, reason)
            yield self._joined([p[0] for p in parts]), self._joined([p[1] for p in parts])

    def _joined(self, parts: list[Tensor]) -> Tensor:
        there = [part.to(self.device, non_blocking=True) for part in parts]
        return torch.cat(there) if len(there) > 1 else there[0]


class _StreamPlan(Plan):
    """The streams of an epoch: in which order each is read, and in which it gives its images."""

    def __init__(
        self, data: ShardFiles, batch_size: int, seed: int, rank: int, world_size: int
    ) -> None:
        super().__init__(len(data), batch_size, seed, rank, world_size)
        self.stored = np.argsort(data.samples, kind="stable")
        self.shard_of = data.index.shard_of[data.samples[self.stored]]
        self.num_shards = len(data.index.shards)
        most = min(len(np.unique(self.shard_of)), _MOST_STREAMS)
        self.streams = data.streams or _greatest_divisor(batch_size, most)
        if batch_size % self.streams or self.streams % world_size:
            raise DataError(
                f"data.streams={self.streams} must divide loader.batch_size={batch_size} and be a "
                f"multiple of the number of processes, {world_size}: set data.streams="
                f"{_greatest_divisor(batch_size // world_size, _MOST_STREAMS) * world_size}"
            )
        self.window = data.shuffle_buffer / self.streams
        self.part = batch_size // self.streams
        """Images that a stream gives to a step."""
        self.first = rank * self.streams // world_size
        """Number of this process's first stream."""

    def lay_out(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Two int64 ``(L, n)``: images in the order of reading, and places there in that of giving.

        An image at place p is given in the order of p + window · U, with U uniform on [0, 1): at
        most ``window`` images later than it is read, and the places of two images that lie further
        apart are never changed.
        """
        random = np.random.default_rng([ORDER, self.seed, epoch])
        turn_of_shard = random.permutation(self.num_shards)
        row = self.stored[np.argsort(turn_of_shard[self.shard_of], kind="stable")]
        length = self.steps_per_epoch * self.part
        reading = row[: self.streams * length].reshape(self.streams, length)
        turn = np.arange(length) + self.window * random.random(reading.shape)
        return reading, np.argsort(turn, axis=1, kind="stable")


class _Keys(Sampler[tuple[int, int, int]]):
    """(epoch, step, slot), slot by slot: the order in which torch deals items to its workers."""

    def __init__(self, slots: int) -> None:
        self.epoch, self.slots, self.steps = 0, slots, range(0)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        epoch = self.epoch
        return ((epoch, step, slot) for step in self.steps for slot in range(self.slots))

    def __len__(self) -> int:
        return len(self.steps) * self.slots


class _Slots(Dataset[_Chunk | DataError]):
    """A worker's share of a step, or why there is none (a raised error would lose its words).

    An item depends on its key alone; streams that stand at the right place from the item before
    are read on, others are opened anew.
    """

    def __init__(self, data: ShardFiles, plan: _StreamPlan, slots: int, cropper: Cropper) -> None:
        self.data, self.plan, self.cropper = data, plan, cropper
        self.width = plan.share // plan.part // slots
        """Streams of a slot."""
        self.epoch = -1
        self.streams: dict[int, _Stream] = {}

    def __getitem__(self, key: Any) -> _Chunk | DataError:
        try:
            return self._chunk(*key)
        except DataError as error:
            return error

    def _chunk(self, epoch: int, step: int, slot: int) -> _Chunk:
        if epoch != self.epoch:
            self.reading, self.giving = self.plan.lay_out(epoch)
            self.epoch, self.streams = epoch, {}
        crops: list[Tensor] = []
        used: list[int] = []
        corrupt: list[tuple[int, str]] = []
        first = self.plan.first + slot * self.width
        for number in range(first, first + self.width):
            for image, index in self._images(number, step * self.plan.part, corrupt):
                crops.append(self.cropper(image, epoch, index))
                used.append(index)
        return torch.stack(crops), torch.tensor(used, dtype=torch.int64), corrupt

    def _images(self, number: int, start: int, corrupt: list[tuple[int, str]]) -> list[Any]:
        """What a stream gives to a step: images and their indices, damaged ones replaced."""
        stream = self.streams.get(number)
        if stream is None or stream.given != start:
            stream = _Stream(self.data, self.reading[number], self.giving[number], start)
            self.streams[number] = stream
        made: list[Any] = []
        for index, content in stream.take(self.plan.part):
            try:
                if isinstance(content, CorruptImage):
                    raise content
                made.append((decode(content, self.data.channels, self.data.value_range), index))
            except CorruptImage as error:
                corrupt.append((index, str(error)))
                made.append(None)
        good = [item for item in made if item is not None]
        for place, item in enumerate(made):
            if item is None:
                later = [other for other in made[place:] if other is not None]
                index = int(self.reading[number, self.giving[number, start + place]])
                made[place] = (later or good or [(blank(self.data.channels), index)])[0]
        return made


class _Stream:
    """A stream of an epoch: reads on in order as far as what is to be given next.

    Args:
        data: The split.
        reading: Images in the order of reading, int64 ``(n,)``.
        giving: Places in ``reading`` in the order of giving, int64 ``(n,)``.
        start: Images that were given before.
    """

    def __init__(
        self,
        data: ShardFiles,
        reading: NDArray[np.int64],
        giving: NDArray[np.int64],
        start: int,
    ) -> None:
        self.data = copy.copy(data)  # with an open shard of its own
        self.reading, self.giving, self.given = reading, giving, start
        self.to_read = iter(np.sort(giving[start:]).tolist())
        self.ahead: dict[int, bytes | CorruptImage] = {}

    def take(self, count: int) -> list[tuple[int, bytes | CorruptImage]]:
        """The next images: index and content, or why there is none."""
        places = self.giving[self.given : self.given + count].tolist()
        self.given += count
        for place in places:
            while place not in self.ahead:
                here = next(self.to_read)
                self.ahead[here] = self._read(int(self.reading[here]))
        return [(int(self.reading[place]), self.ahead.pop(place)) for place in places]

    def _read(self, index: int) -> bytes | CorruptImage:
        try:
            return self.data.content(index)
        except CorruptImage as error:
            return error


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _greatest_divisor(number: int, most: int) -> int:
    """The greatest divisor of ``number`` that is at most ``most``."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)


def _check_shards(shards: int, processes: int, workers: int) -> None:
    if shards >= processes * workers:
        return
    advice = (
        f"set loader.num_workers={shards // processes}"
        if shards >= processes
        else (f"train on at most {shards} processes")
    )
    raise DataError(
        f"{shards} shards are fewer than the {processes} × {workers} worker processes that would "
        f"read them: {advice}, or pack the images into more shards"
    )
