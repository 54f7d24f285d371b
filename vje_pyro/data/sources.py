"""What ``data=NAME`` in a configuration makes: a named data set with its splits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from vje_pyro.data.arrays import ImageArray, resize_images, stratified_order
from vje_pyro.data.files import ImageFiles
from vje_pyro.errors import DataError

Split = ImageArray | ImageFiles


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
    splits: Mapping[str, str]
    """Split names, and the stored split that each is read from."""

    def __init__(self, train_limit: int | None = None, test_limit: int | None = None) -> None:
        for name, limit in (("train_limit", train_limit), ("test_limit", test_limit)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1 or null, got {limit}")
        self.train_limit, self.test_limit = train_limit, test_limit
        self._read: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """A split: ``pretrain`` (labels may be absent), ``train``, ``test``, and others it has.

        ``train_limit`` cuts ``pretrain`` and ``train``, ``test_limit`` all others, each to the
        first images of ``stratified_order`` (seed 0): class-balanced, nested and reproducible.

        Raises:
            DataError: if there is no such split, or its files are absent or damaged.
        """
        if name not in self.splits:
            raise DataError(
                f"{self.name} has no split {name!r}; choose from {', '.join(sorted(self.splits))}"
            )
        stored, limit = self.splits[name], self._limit(name)
        key = f"{stored}:{limit}"
        if key not in self._read:
            self._read[key] = self._resize(_limited(self._load(stored), limit))
        return self._read[key]

    def positions(self, name: str) -> Tensor:
        """Where the images of a split stand in the stored one, int64 ``(N,)``.

        Raises:
            DataError: as :meth:`split`.
        """
        count, limit = len(self.split(name)), self._limit(name)
        labels = self._load(self.splits[name]).labels
        return torch.arange(count) if count == len(labels) else stratified_order(labels)[:limit]

    def _limit(self, name: str) -> int | None:
        return self.train_limit if name in ("pretrain", "train") else self.test_limit

    @abstractmethod
    def _load(self, stored: str) -> Split:
        """Read a stored split whole, at its native size."""

    def _resize(self, split: Split) -> Split:
        if isinstance(split, ImageFiles):
            return split
        return ImageArray(resize_images(split.images, self.image_size), split.labels, split.classes)

    def __repr__(self) -> str:
        shape = f"{self.channels}x{self.image_size}x{self.image_size}"
        return f"{type(self).__name__}({shape}, splits: {', '.join(self.splits)})"


def _limited(split: Split, limit: int | None) -> Split:
    if limit is None or limit >= len(split):
        return split
    return split.subset(stratified_order(split.labels)[:limit])
