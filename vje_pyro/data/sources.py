"""What ``data=NAME`` in a configuration makes: a named data set with its splits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from vje_pyro.checking import check_values
from vje_pyro.data.arrays import ImageArray, resize_images, stratified_order
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.value_ranges import ValueRange, checked_range
from vje_pyro.errors import DataError
from vje_pyro.ranges import Channels, ImageSize, NonNegativeInt, PositiveFloat, PositiveInt, Share

Split = ImageArray | ImageFiles

VALIDATION = "validation"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Described(ABC):
    """What is known of a data set before an image is read."""

    name: str
    """Short name, as in the configuration."""
    channels: int
    """1 or 3."""
    image_size: int
    """Height and width in pixels, after the resizing that was asked for."""
    num_classes: int
    """Number of classes; 0 when there are no labels."""
    mean: tuple[float, ...]
    """Channel means of the training images in [0, 1]."""
    std: tuple[float, ...]
    """Channel standard deviations of the training images."""
    value_range: ValueRange | None = None
    """Values that become black and white where images have more than 8 bits."""
    splits: Mapping[str, str]
    """Split names, and the stored split that each is read from."""


@dataclass(eq=False, repr=False)
class DataSource(Described):
    """A data set: its splits, read when they are first asked for, and its statistics.

    A subclass sets the attributes and reads one stored split in ``_load``.

    Args:
        train_limit: Training images, class-balanced; null is all.
        test_limit: Images of every other split, class-balanced; null is all.

    Raises:
        ValueError: If an argument is not what its annotation says.
    """

    _: KW_ONLY
    train_limit: PositiveInt | None = None
    test_limit: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_values(type(self), vars(self))
        self._read: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """A split: ``pretrain`` (labels may be absent), ``train``, ``test``, and others it has.

        ``train_limit`` cuts ``pretrain`` and ``train``, ``test_limit`` all others, each to the
        first images of ``stratified_order`` (seed 0). ``validation`` is what ``train_limit`` leaves
        of ``train``: images that training has not seen.

        Raises:
            DataError: If there is no such split, or its files are absent or damaged.
        """
        stored, part = self._stored(name), self._part_of(name)
        key = f"{stored}:{part}"
        if key not in self._read:
            self._read[key] = self._resize(self._cut(name, self._load(stored), part))
        return self._read[key]

    def positions(self, name: str) -> Tensor:
        """Where the images of a split are in the stored one, int64 ``(N,)``; see :meth:`split`."""
        count, labels = len(self.split(name)), self._load(self._stored(name)).labels
        if count == len(labels):
            return torch.arange(count)
        return self._chosen(labels, self._part_of(name))

    def find_value_range(self) -> ValueRange | None:
        """``value_range``, from the images to pretrain on where it is not known; None for 8 bits.

        Raises:
            DataError: If the images are absent or have no common range.
        """
        return self.value_range

    def describe(self) -> list[str]:
        """What was understood of the data, in lines for the log of a training."""
        return []

    @abstractmethod
    def _load(self, stored: str) -> Split:
        """Read a stored split whole, at its native size."""

    def _stored(self, name: str) -> str:
        source = "train" if name == VALIDATION else name
        if source not in self.splits:
            raise DataError(
                f"{self.name} has no split {name!r}; choose from {', '.join(sorted(self.splits))}"
            )
        return self.splits[source]

    def _part_of(self, name: str) -> slice:
        """Which images of the class-balanced order a split holds."""
        if name != VALIDATION:
            return slice(self.train_limit if name in ("pretrain", "train") else self.test_limit)
        if self.train_limit is None:
            raise DataError(
                f"{self.name} has no validation images, because all training images are trained "
                "on: set data.train_limit=N to keep the others"
            )
        stop = None if self.test_limit is None else self.train_limit + self.test_limit
        return slice(self.train_limit, stop)

    def _resize(self, split: Split) -> Split:
        if isinstance(split, ImageFiles):
            return split
        return ImageArray(resize_images(split.images, self.image_size), split.labels, split.classes)

    def _cut(self, name: str, split: Split, part: slice) -> Split:
        if (part.start or 0) >= len(split):
            raise DataError(
                f"the {name} split is empty: data.train_limit={part.start} takes all {len(split)} "
                "training images"
            )
        if part.start is None and (part.stop is None or part.stop >= len(split)):
            return split
        return split.subset(self._chosen(split.labels, part))

    def _chosen(self, labels: Tensor, part: slice) -> Tensor:
        """Which images ``part`` of the class-balanced order are."""
        return stratified_order(labels)[part]

    def __repr__(self) -> str:
        shape = f"{self.channels}x{self.image_size}x{self.image_size}"
        return f"{type(self).__name__}({shape}, splits: {', '.join(self.splits)})"


@dataclass(eq=False, repr=False)
class FileSource(DataSource):
    """Images of any size and mode that stay in files.

    Args:
        image_size: Height and width of crops and of evaluation images (central square).
        channels: 3 (RGB) or 1 (grey).
        mean: Channel means for normalisation; null is ImageNet's.
        std: Channel standard deviations; null is ImageNet's.
        crop_fraction: Share of the shorter side that evaluation keeps (ImageNet's custom: 0.875).
        value_range: Values that become black and white in grey images of more than 8 bits (see
            :mod:`~vje_pyro.data.value_ranges`).
        max_corrupt: Damaged files that are skipped before giving up.
    """

    _: KW_ONLY
    image_size: ImageSize = 224
    channels: Channels = 3
    mean: Sequence[float] | None = None  # type: ignore[assignment]
    std: Sequence[PositiveFloat] | None = None  # type: ignore[assignment]
    crop_fraction: Share = 1.0
    value_range: ValueRange | None = None
    max_corrupt: NonNegativeInt = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels == 2:
            raise ValueError("channels must be 1 or 3, got 2")
        self.mean = tuple(self.mean or IMAGENET_MEAN[: self.channels])
        self.std = tuple(self.std or IMAGENET_STD[: self.channels])
        self.value_range = checked_range(self.value_range)

    def decoding(self) -> dict[str, Any]:
        """How files become images: keyword arguments of ``ImageFiles``."""
        names = ("image_size", "channels", "crop_fraction", "max_corrupt", "value_range")
        return {name: getattr(self, name) for name in names}
