"""Images in files: a split that stays on disk."""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.decoding import (
    CorruptImage,
    decode,
    extent,
    leaves_upper_bits,
    printable,
    read_file,
)
from vje_pyro.data.searching import check_limit
from vje_pyro.data.value_ranges import ValueRange, common_range
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """A split that stays on disk; an image is decoded when it is asked for.

    Damaged files are remembered in ``corrupt`` (name to reason) and logged; users of a split skip
    them through ``note_corrupt``, which gives up beyond ``max_corrupt``.

    Args:
        root: Folder that the names are relative to.
        names: File names, relative to ``root``.
        labels: int64, shape ``(N,)``; ``-1`` where the class is not known.
        classes: Class names in the order of the labels; empty when unknown.
        image_size: Height and width of ``tensor(i)`` in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: Share of the shorter side that the central square of ``tensor(i)`` keeps
            (0.875 is the custom on ImageNet).
        max_corrupt: Damaged files that are skipped before giving up.
        value_range: As for :func:`~vje_pyro.data.decoding.decode`.
    """

    def __init__(
        self,
        root: str | Path,
        names: Sequence[str],
        labels: Tensor,
        classes: tuple[str, ...] = (),
        *,
        image_size: int,
        channels: int = 3,
        crop_fraction: float = 1.0,
        max_corrupt: int = 10,
        value_range: ValueRange | None = None,
    ) -> None:
        if len(names) != len(labels):
            raise ValueError(f"{len(names)} names but {len(labels)} labels")
        if not 0 < crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {crop_fraction}")
        self.root = root
        self.names = names
        self.labels = labels
        self.classes = classes
        self.image_size = image_size
        self.channels = channels
        self.crop_fraction = crop_fraction
        self.max_corrupt = max_corrupt
        self.value_range = value_range
        self.corrupt: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def location(self, index: int) -> str:
        """Where an image is."""
        return os.path.join(self.root, self.names[index])

    def content(self, index: int) -> bytes:
        """The bytes of an image's file.

        Raises:
            CorruptImage: if the file cannot be read.
        """
        return read_file(self.location(index))

    def image(self, index: int) -> Image.Image:
        """The whole image, upright, in mode RGB (or L).

        Raises:
            CorruptImage: if the file cannot be decoded.
        """
        return decode(self.content(index), self.channels, self.value_range)

    def tensor(self, index: int) -> Tensor:
        """The central square, resized: uint8 ``(C, S, S)``; for evaluation.

        Raises:
            CorruptImage: if the file cannot be decoded.
        """
        return _square(self.image(index), self.image_size, self.crop_fraction)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """``(tensor(index), labels[index])``.

        Raises:
            DataError: if the file cannot be decoded.
        """
        try:
            return self.tensor(index), self.labels[index]
        except CorruptImage as error:
            raise DataError(f"{printable(self.location(index))}: {error}") from None

    def note_corrupt(self, index: int, reason: str) -> None:
        """Count a damaged file, once.

        Raises:
            DataError: if there are now more than ``max_corrupt``.
        """
        name = self.names[index]
        if name not in self.corrupt:
            self.corrupt[name] = reason
            logger.warning(
                "skipped corrupt image %d (limit %d): %s: %s",
                len(self.corrupt),
                self.max_corrupt,
                printable(self.location(index)),
                reason,
            )
        check_limit(self.root, self.corrupt, self.max_corrupt)

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageFiles":
        """The images at ``indices``, in that order; nothing is decoded."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageFiles(
            self.root,
            [self.names[i] for i in chosen.tolist()],
            self.labels[chosen],
            self.classes,
            image_size=self.image_size,
            channels=self.channels,
            crop_fraction=self.crop_fraction,
            max_corrupt=self.max_corrupt,
            value_range=self.value_range,
        )

    def draw(self, count: int, seed: int) -> "ImageFiles":
        """At most ``count`` images at random."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[:count])

    def digest(self) -> str:
        """SHA-256 (hex) of names, file sizes and labels; contents are too much to read for this.

        A file that is not there, or is behind a broken link, has the size -1.
        """
        hasher = hashlib.sha256()
        for name, label in zip(self.names, self.labels.tolist(), strict=True):
            size = _size(os.path.join(self.root, name))
            hasher.update(os.fsencode(f"{Path(name).as_posix()}\0{size}\0{label}\n"))
        return hasher.hexdigest()

    def find_value_range(self, count: int = 512) -> ValueRange | None:
        """The one range of all grey values with more than 8 bits, from those of some images.

        Args:
            count: Images to look at, evenly spaced; of 8-bit ones only the headers are decoded.

        Returns:
            As :func:`~vje_pyro.data.value_ranges.common_range`.

        Raises:
            DataError: If some images hold integers and some floating-point numbers.
        """
        places = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        extents, dark = [], []
        for index in places.tolist():
            with suppress(CorruptImage):
                content = self.content(index)
                extents.append(extent(content))
                dark.append(leaves_upper_bits(content))
        root, known = printable(str(self.root)), [d for d in dark if d is not None]
        if known and all(known):
            logger.warning(
                "%s: colour images of 16 bits that are darker than 1/16: if they hold 12 bits, "
                "convert them, for only the upper eight of the 16 are read",
                root,
            )
        try:
            return common_range(e for e in extents if e is not None)
        except ValueError as error:
            raise DataError(f"{root}: {error}") from None

    def load(self) -> ImageArray:
        """Decode everything into memory with ``tensor``, without the damaged files."""
        return self._load()[0]

    def _load(self) -> tuple[ImageArray, list[str]]:
        kept, tensors = [], []
        for index in range(len(self)):
            try:
                tensors.append(self.tensor(index))
                kept.append(index)
            except CorruptImage as error:
                self.note_corrupt(index, str(error))
        if not tensors:
            raise none_readable(self)
        array = ImageArray(torch.stack(tensors), self.labels[kept], self.classes)
        return array, [self.names[i] for i in kept]


def _square(image: Image.Image, size: int, fraction: float = 1.0) -> Tensor:
    """The central square of ``fraction`` of the shorter side, resized to uint8 ``(C, size, size)``.

    Antialiased bilinear, in one step.
    """
    side = min(image.size) * fraction
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return pil_to_tensor(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def pil_to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image of mode L or RGB as uint8 ``(C, H, W)``."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def none_readable(files: ImageFiles) -> DataError:
    """What to say of a split without a single image that can be decoded."""
    root = printable(str(files.root))
    return DataError(f"none of the {len(files)} images in {root} can be decoded")


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1
