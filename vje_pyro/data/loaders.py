"""Batches for training and for evaluation, the same on one process or many, resumable anywhere.

The order of an epoch depends on (seed, epoch) alone and is the same on every rank; rank r takes
the r-th slice of every batch. So the ranks together see the batches that one process sees, and a
run can continue at any step of any epoch without having to replay what came before.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.crops import sample_boxes
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles, none_readable, pil_to_tensor
from vje_pyro.data.views import Views
from vje_pyro.errors import DataError

ORDER, _CROP = 1, 2
"""First words of the random seeds, which keep the two uses of a seed apart."""

Device = torch.device | str


class Plan:
    """Which images each step of an epoch takes on one rank."""

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "batch_size must be at least 1 and rank below world_size, got "
                f"batch_size={batch_size}, rank={rank}, world_size={world_size}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size} cannot be shared equally among {world_size} processes"
            )
        if count < batch_size:
            raise DataError(
                f"{count} images are fewer than one batch of {batch_size}: lower the batch size or "
                "use more images"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.share = rank, batch_size // world_size
        self.steps_per_epoch = count // batch_size

    def check_start(self, start_step: int) -> None:
        """Refuse a step that the epoch does not have."""
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"start_step must lie in 0…{self.steps_per_epoch}, the steps of an epoch, got "
                f"{start_step}"
            )

    def steps(self, epoch: int, start_step: int) -> np.ndarray:
        """Indices of the images, int64 ``(steps left, share)``."""
        self.check_start(start_step)
        order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(self.count)
        batches = order[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)
        return batches[start_step:, self.rank * self.share : (self.rank + 1) * self.share]


class ResidentLoader:
    """Batches of a split that stays on the device as uint8.

    Args:
        data: The split; its images are moved to ``device`` once.
        batch_size: Images of a step, over all processes.
        seed: Seed of the order.
        device: Where the images live.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        DataError: if there are fewer images than one batch.
        ValueError: if the batch cannot be shared equally.
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
        self._plan = Plan(len(data), batch_size, seed, rank, world_size)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.images, self.labels = data.images.to(device), data.labels

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``start_step`` … of an epoch; an incomplete last batch is dropped.

        Yields:
            ``(images, indices)``: uint8 ``(b, C, H, W)`` and int64 ``(b,)``, with
            b = batch_size / world_size.
        """
        steps = torch.from_numpy(self._plan.steps(epoch, start_step).copy())
        for indices in steps.to(self.images.device):
            yield self.images[indices], indices


class StreamingLoader:
    """Batches of random crops that worker processes decode and cut.

    The crop of an image depends only on (seed, epoch, index), so neither the number of workers nor
    a resumed run changes anything. A damaged file is replaced by the next image that can be read,
    and counted (``ImageFiles.note_corrupt``).

    Args:
        data: The split.
        batch_size: Images of a step, over all processes.
        views: The views that ``views.from_crops`` will finish; it gives the number of crops, their
            size, area and aspect ratio.
        seed: Seed of order and crops.
        device: Where batches are moved to.
        num_workers: Worker processes; 0 works in this one.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        DataError: if there are fewer images than one batch.
        ValueError: if the batch cannot be shared equally.
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
        self._plan = Plan(len(data), batch_size, seed, rank, world_size)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.data, self.labels = data, data.labels
        self.device = torch.device(device)
        self._batches = _Batches()
        self._loader = DataLoader(
            _Crops(data, views, seed),
            batch_sampler=self._batches,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
            collate_fn=_collate,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )
        release_in_order(self, self._loader)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``start_step`` … of an epoch; what comes before is not decoded.

        Yields:
            ``(crops, indices)``: uint8 ``(b, V, C, S, S)`` and int64 ``(b,)``, with
            b = batch_size / world_size.

        Raises:
            DataError: if more files are damaged than ``data.max_corrupt``.
        """
        self._batches.epoch, self._batches.steps = epoch, self._plan.steps(epoch, start_step)
        for crops, indices, corrupt in self._loader:
            for index, reason in corrupt:
                assert isinstance(self.data, ImageFiles)  # arrays do not decay
                self.data.note_corrupt(index, reason)
            yield (
                crops.to(self.device, non_blocking=True),
                indices.to(self.device, non_blocking=True),
            )


class Cropper:
    """Random crops of an image, which depend on (seed, epoch, index of the image) alone.

    Args:
        views: Gives the number of crops, their size, area and aspect ratio.
        seed: Seed of the crops.
    """

    def __init__(self, views: Views, seed: int) -> None:
        self.seed = seed
        self.size, self.num_views = views.image_size, views.num_views
        self.scale, self.ratio = views.crop_scale, views.crop_ratio

    def __call__(self, image: Image.Image, epoch: int, index: int) -> Tensor:
        """Crops of one image, uint8 ``(V, C, S, S)``."""
        random = np.random.default_rng([_CROP, self.seed, epoch, index])
        uniforms = torch.from_numpy(random.random((4, self.num_views), dtype=np.float32))
        boxes = sample_boxes(uniforms, image.height, image.width, self.scale, self.ratio)
        return torch.stack([self._cut(image, *box) for box in boxes.T.tolist()])

    def _cut(
        self, image: Image.Image, left: float, top: float, width: float, height: float
    ) -> Tensor:
        # a float may step over the edge by its last bit, which Pillow refuses
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        size = (self.size, self.size)
        return pil_to_tensor(image.resize(size, Image.Resampling.BILINEAR, box=box))


class _Batches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index): workers that outlive an epoch need no other word from outside."""

    def __init__(self) -> None:
        self.epoch, self.steps = 0, np.empty((0, 0), np.int64)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch  # made one by one: an epoch may have millions of images
        return ([(epoch, index) for index in step.tolist()] for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)


_Item = tuple[Tensor, int, list[tuple[int, str]]]


class _Crops(Dataset[_Item]):
    """Crops of one image, the index they are from, and the damaged files met on the way."""

    def __init__(self, data: ImageArray | ImageFiles, views: Views, seed: int) -> None:
        self.data, self.cropper = data, Cropper(views, seed)

    def __getitem__(self, key: Any) -> _Item:
        epoch, index = key
        image, used, corrupt = self._readable(index)
        return self.cropper(image, epoch, index), used, corrupt

    def _readable(self, index: int) -> tuple[Image.Image, int, list[tuple[int, str]]]:
        """The image, or the next that can be read."""
        corrupt: list[tuple[int, str]] = []
        for offset in range(len(self.data)):
            place = (index + offset) % len(self.data)
            try:
                return self.data.image(place), place, corrupt
            except CorruptImage as error:
                corrupt.append((place, str(error)))
                if len(corrupt) > getattr(self.data, "max_corrupt", 0):
                    break  # the loader will give up on these; anything serves as the image
        return blank(getattr(self.data, "channels", 3)), index, corrupt


def release_in_order(owner: object, loader: DataLoader[Any]) -> None:
    """Have a loader's workers end at once when its owner is freed as part of a reference cycle.

    The garbage collector takes apart what it frees in any order; queues that go before the loader
    leave its workers waiting, and ten seconds pass for each. A finaliser's reference keeps the
    loader out of that garbage until the owner is gone.
    """
    weakref.finalize(owner, id, loader)


def blank(channels: int) -> Image.Image:
    """What stands in for an image where none can be read."""
    return Image.new("RGB" if channels == 3 else "L", (1, 1))


def _collate(items: list[_Item]) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
    crops, indices, corrupt = zip(*items, strict=True)
    return (
        torch.stack(crops),
        torch.tensor(indices, dtype=torch.int64),
        [entry for entries in corrupt for entry in entries],
    )


def batches(
    split: ImageArray | ImageFiles, batch_size: int, num_workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split once, in order, whole images: for evaluation.

    Args:
        split: In memory or on disk; of the latter damaged files are left out.
        batch_size: Images a batch; the last may be smaller.
        num_workers: Worker processes that decode files.

    Yields:
        ``(images, labels)``: uint8 ``(b, C, H, W)`` and int64 ``(b,)``, on the CPU or where the
        array is.

    Raises:
        DataError: if all files are damaged, or more than the split's ``max_corrupt``.
    """
    if isinstance(split, ImageArray):
        if len(split):  # else torch would make one empty batch
            parts = split.images.split(batch_size), split.labels.split(batch_size)
            yield from zip(*parts, strict=True)
        return
    loader = DataLoader(
        _Whole(split),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator(),
    )
    some = not len(split)
    for items in loader:
        good = [(index, image) for index, image in items if isinstance(image, Tensor)]
        for index, image in items:
            if not isinstance(image, Tensor):
                split.note_corrupt(index, image)
        if good:
            some = True
            yield torch.stack([image for _, image in good]), split.labels[[i for i, _ in good]]
    if not some:
        raise none_readable(split)


class _Whole(Dataset[tuple[int, Tensor | str]]):
    """Index and image, or index and the reason why there is none."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.files.tensor(index)
        except CorruptImage as error:
            return index, str(error)
