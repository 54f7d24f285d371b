"""Batches for training, the same on one process or many, resumable anywhere.

The order of an epoch depends on (seed, epoch) alone; rank r takes the r-th slice of every batch. So
the ranks together see the batches that one process sees, and a run can continue at any step.
"""

import weakref
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.crops import sample_boxes
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles, none_readable
from vje_pyro.data.searching import check_limit
from vje_pyro.data.views import Views
from vje_pyro.errors import DataError

_ORDER, _CROP = 1, 2  # first words of the random seeds: the two uses of a seed stay apart

Device = torch.device | str
_Key = tuple[int, int]
_Item = tuple[NDArray[np.uint8], int, list[tuple[int, str]]]  # crops (V, S, S, C)
_Batch = tuple[Tensor, Tensor, list[tuple[int, str]]]


class _Loader:
    """Which images each step of an epoch takes on one rank.

    Args:
        count: Images of the split.
        batch_size: Images of a step, over all processes.
        seed: Seed of the order.
        rank: Number of this process, of ``world_size``.

    Raises:
        DataError: If there are fewer images than one batch.
        ValueError: If the batch cannot be shared equally.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "batch_size must be at least 1 and rank below world_size, got "
                f"batch_size={batch_size}, rank={rank}, world_size={world_size}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size} cannot be divided equally among {world_size} processes"
            )
        if count < batch_size:
            raise DataError(
                f"{count} images are fewer than one batch of {batch_size}: lower "
                "loader.batch_size, or use more images"
            )
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._mine = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.steps_per_epoch = count // batch_size

    def _steps(self, epoch: int, start_step: int) -> np.ndarray:
        """Indices of the images, int64 ``(steps left, b)``."""
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"start_step must lie in 0…{self.steps_per_epoch}, the steps of an epoch, got "
                f"{start_step}"
            )
        order = np.random.default_rng([_ORDER, self._seed, epoch]).permutation(self._count)
        batches = order[: self.steps_per_epoch * self._batch_size].reshape(-1, self._batch_size)
        return batches[start_step:, self._mine]


class ResidentLoader(_Loader):
    """Batches of a split that stays on the device as uint8.

    Args:
        data: The split; its images are moved to ``device`` once.
        device: Where the images live.
        batch_size, seed, rank, world_size: See ``_Loader``, as for what is raised.
    """

    def __init__(
        self,
        data: ImageArray,
        batch_size: int,
        *,
        seed: int,
        device: Device = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(data), batch_size, seed, rank, world_size)
        self.images, self.labels = data.images.to(device), data.labels

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``start_step`` … of an epoch; an incomplete last batch is dropped.

        Yields:
            ``(images, indices)``: uint8 ``(b, C, H, W)`` and int64 ``(b,)``, b = batch_size /
            world_size.
        """
        steps = torch.from_numpy(self._steps(epoch, start_step).copy())
        for indices in steps.to(self.images.device):
            yield self.images[indices], indices


class StreamingLoader(_Loader):
    """Batches of random crops that worker processes read, decode and cut.

    The crop of an image depends only on (seed, epoch, index). A damaged file is replaced by the
    next image that can be read, and counted (``ImageFiles.note_corrupt``).

    Args:
        data: The split.
        views: The views that ``views.from_crops`` will finish; it gives the number of crops, their
            size, area and aspect ratio.
        seed: Seed of order and crops.
        device: Where batches are moved to.
        num_workers: Worker processes; 0 works in this one.
        batch_size, rank, world_size: See ``_Loader``, as for what is raised.
    """

    def __init__(
        self,
        data: ImageArray | ImageFiles,
        batch_size: int,
        *,
        views: Views,
        seed: int,
        device: Device = "cpu",
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(data), batch_size, seed, rank, world_size)
        self.data, self.labels, self.device = data, data.labels, torch.device(device)
        self._keys = _Keys()
        self._loader = DataLoader(
            _Crops(data, views, seed),
            batch_sampler=self._keys,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
            collate_fn=_collate,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )
        # Else garbage collection of a cycle may free the queues first, and the workers wait on.
        weakref.finalize(self, id, self._loader)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``start_step`` … of an epoch; what comes before is not read.

        Yields:
            ``(crops, indices)``: uint8 ``(b, V, C, S, S)`` and int64 ``(b,)``, b = batch_size /
            world_size.

        Raises:
            DataError: If more files are damaged than ``data.max_corrupt``, or a tar shard is absent
                or not the one that was indexed.
        """
        self._keys.epoch, self._keys.steps = epoch, self._steps(epoch, start_step)
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise DataError(str(batch))  # a new one: else frame and error hold each other
            crops, indices, corrupt = batch
            for index, reason in corrupt:
                assert isinstance(self.data, ImageFiles)  # arrays do not decay
                self.data.note_corrupt(index, reason)
            yield (
                crops.to(self.device, non_blocking=True),
                indices.to(self.device, non_blocking=True),
            )


class _Keys(Sampler[list[_Key]]):
    """Batches of (epoch, index): workers that outlive an epoch need no other word from outside."""

    def __init__(self) -> None:
        self.epoch, self.steps = 0, np.empty((0, 0), np.int64)

    def __iter__(self) -> Iterator[list[_Key]]:
        epoch = self.epoch  # made one by one: an epoch may have millions of images
        return ([(epoch, index) for index in step.tolist()] for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class _Crops(Dataset[_Item]):
    """Crops of images, the index each is from, and the damaged files met on the way."""

    def __init__(self, data: ImageArray | ImageFiles, views: Views, seed: int) -> None:
        self.data, self.seed = data, seed
        self.size, self.num_views = (views.image_size, views.image_size), views.num_views
        self.scale, self.ratio = views.crop_scale, views.crop_ratio

    def __getitems__(self, keys: list[_Key]) -> list[_Item] | DataError:
        """A batch, or why there is none: of an error that a worker raises, torch loses the type."""
        images = self.data.decoded([index for _, index in keys])
        try:
            return [self._item(*key, image) for key, image in zip(keys, images, strict=True)]
        except DataError as error:
            return error

    def _item(self, epoch: int, index: int, image: Image.Image | CorruptImage) -> _Item:
        """Crops of the image or, where it is damaged, of the next that can be read."""
        used, corrupt = index, []
        while isinstance(image, CorruptImage):
            assert isinstance(self.data, ImageFiles)
            corrupt.append((used, str(image)))
            names = {self.data.name(place): reason for place, reason in corrupt}
            check_limit(self.data.root, names, self.data.max_corrupt)
            used = (used + 1) % len(self.data)
            if used == index:
                raise none_readable(self.data)
            (image,) = self.data.decoded([used])
        random = np.random.default_rng([_CROP, self.seed, epoch, index])
        uniforms = torch.from_numpy(random.random((4, self.num_views), dtype=np.float32))
        boxes = sample_boxes(uniforms, image.height, image.width, self.scale, self.ratio)
        return np.stack([self._cut(image, *box) for box in boxes.T.tolist()]), used, corrupt

    def _cut(
        self, image: Image.Image, left: float, top: float, width: float, height: float
    ) -> NDArray[np.uint8]:
        # a float may step over the edge by its last bit, which Pillow refuses
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        crop = image.resize(self.size, Image.Resampling.BILINEAR, box=box)
        return np.asarray(crop).reshape(*self.size, -1)


def _collate(items: list[_Item] | DataError) -> _Batch | DataError:
    if isinstance(items, DataError):
        return items
    crops, indices, corrupt = zip(*items, strict=True)
    found = [entry for entries in corrupt for entry in entries]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 1, 4, 2, 3)
    return pixels.contiguous(), torch.tensor(indices, dtype=torch.int64), found
