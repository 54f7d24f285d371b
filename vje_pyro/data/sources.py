"""What ``data=NAME`` in a configuration makes: a named data set with its splits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from vje_pyro.data.arrays import ImageArray, resize_images, stratified_order
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.value_ranges import ValueRange
from vje_pyro.errors import DataError
from vje_pyro.ranges import PositiveInt

Split = ImageArray | ImageFiles


VALIDATION = "validation"


class DataSource(ABC):
    """A data set: its splits, read when they are first asked for, and its statistics.

    A subclass sets the attributes and reads one stored split in ``_load``.
    """

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
    """Values that become black and white where images have more than 8 bits, as far as it is known
    without a look at the images."""
    splits: Mapping[str, str]
    """Split names, and the stored split that each is read from."""

    def __init__(
        self, train_limit: PositiveInt | None = None, test_limit: PositiveInt | None = None
    ) -> None:
        for name, limit in (("train_limit", train_limit), ("test_limit", test_limit)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1 or null, got {limit}")
        self.train_limit, self.test_limit = train_limit, test_limit
        self._read: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """A split: ``pretrain`` (labels may be absent), ``train``, ``test``, and others it has.

        ``train_limit`` cuts ``pretrain`` and ``train``, ``test_limit`` all others, each to the
        first images of ``stratified_order`` (seed 0): class-balanced, nested and reproducible.
        ``validation`` is what ``train_limit`` leaves of ``train``: images to choose or to
        calibrate on that training has not seen.

        Raises:
            DataError: if there is no such split, or its files are absent or damaged.
        """
        stored, part = self._stored(name), self._part_of(name)
        key = f"{stored}:{part}"
        if key not in self._read:
            self._read[key] = self._resize(self._cut(name, self._load(stored), part))
        return self._read[key]

    def positions(self, name: str) -> Tensor:
        """Where the images of a split stand in the stored one, int64 ``(N,)``.

        Raises:
            DataError: as :meth:`split`.
        """
        count, labels = len(self.split(name)), self._load(self._stored(name)).labels
        if count == len(labels):
            return torch.arange(count)
        return self._chosen(labels, self._part_of(name))

    def _stored(self, name: str) -> str:
        source = "train" if name == VALIDATION else name
        if source not in self.splits:
            raise DataError(
                f"{self.name} has no split {name!r}; choose from {', '.join(sorted(self.splits))}"
            )
        return self.splits[source]

    def _part_of(self, name: str) -> slice:
        """Which images of the class-balanced order a split holds."""
        if name == VALIDATION:
            if self.train_limit is None:
                raise DataError(
                    f"all training images of {self.name} are trained on: data.train_limit=N leaves "
                    "the others for validation"
                )
            stop = None if self.test_limit is None else self.train_limit + self.test_limit
            return slice(self.train_limit, stop)
        return slice(self.train_limit if name in ("pretrain", "train") else self.test_limit)

    def find_value_range(self) -> ValueRange | None:
        """``value_range``, from the images to pretrain on where it is not known; None for 8 bits.

        Raises:
            DataError: if the images are absent or have no common range.
        """
        return self.value_range

    def describe(self) -> list[str]:
        """What was understood of the data, in lines for the log of a training."""
        return []

    @abstractmethod
    def _load(self, stored: str) -> Split:
        """Read a stored split whole, at its native size."""

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
