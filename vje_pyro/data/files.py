"""Images in files: a split that stays on disk."""

import copy
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vje_pyro.data.arrays import ImageArray, pixel_tensor
from vje_pyro.data.decoding import (
    CorruptImage,
    decode,
    extent,
    leaves_upper_bits,
    picture_size,
    printable,
    read_file,
)
from vje_pyro.data.searching import check_limit
from vje_pyro.data.value_ranges import ValueRange, common_range
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

SIZES = 4096
"""Files, spread evenly over a split, whose size a quick digest holds."""
_AT_ONCE = 64  # files whose content is held while they are decoded


@dataclass(eq=False)
class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """A split that stays on disk; an image is decoded when it is asked for.

    Damaged files are logged, remembered in ``corrupt`` (name to reason) and skipped, up to
    ``max_corrupt`` of them.

    Args:
        root: Folder that the names are relative to.
        names: File names, relative to ``root``.
        labels: int64, shape ``(N,)``; ``-1`` where the class is not known.
        classes: Class names in the order of the labels; empty when unknown.
        image_size: Height and width of ``tensor(i)`` in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: Share of the shorter side that the central square of ``tensor(i)`` keeps.
        max_corrupt: Damaged files that are skipped before giving up.
        value_range: As for ``vje_pyro.data.decoding.decode``.
    """

    root: str | Path
    names: Sequence[str]
    labels: Tensor
    classes: tuple[str, ...] = ()
    _: KW_ONLY
    image_size: int
    channels: int = 3
    crop_fraction: float = 1.0
    max_corrupt: int = 10
    value_range: ValueRange | None = None
    corrupt: dict[str, str] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Name of an image, relative to ``root``."""
        return self.names[index]

    def location(self, index: int) -> str:
        """Where an image is."""
        return os.path.join(self.root, self.name(index))

    def contents(self, indices: Sequence[int]) -> list[bytes | CorruptImage]:
        """The bytes of the images' files, or why there are none."""
        return [_content(self.location(index)) for index in indices]

    def decoded(self, indices: Sequence[int]) -> Iterator[Image.Image | CorruptImage]:
        """The whole images, upright, in mode RGB (or L), or why there are none."""
        for start in range(0, len(indices), _AT_ONCE):
            for content in self.contents(indices[start : start + _AT_ONCE]):
                try:
                    if isinstance(content, CorruptImage):
                        raise content
                    yield decode(content, self.channels, self.value_range)
                except CorruptImage as error:
                    yield error

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Width and height of the images whose header can be read."""
        for index in range(len(self)):
            with suppress(CorruptImage):
                yield picture_size(self.location(index))

    def image(self, index: int) -> Image.Image:
        """The whole image, upright, in mode RGB (or L); :class:`CorruptImage` if it is damaged."""
        (made,) = self.decoded([index])
        if isinstance(made, CorruptImage):
            raise made
        return made

    def square(self, image: Image.Image) -> Tensor:
        """The central square, resized (antialiased bilinear): uint8 ``(C, S, S)``."""
        side = min(image.size) * self.crop_fraction
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box, size = (left, top, left + side, top + side), (self.image_size, self.image_size)
        return pixel_tensor(image.resize(size, Image.Resampling.BILINEAR, box=box))

    def tensor(self, index: int) -> Tensor:
        """The central square of an image, uint8 ``(C, S, S)``; errors as of :meth:`image`."""
        return self.square(self.image(index))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """``(tensor(index), labels[index])``; :class:`DataError` if the image is damaged."""
        try:
            return self.tensor(index), self.labels[index]
        except CorruptImage as error:
            raise DataError(f"{printable(self.location(index))}: {error}") from None

    def note_corrupt(self, index: int, reason: object) -> None:
        """Count a damaged file, once; :class:`DataError` for more than ``max_corrupt``."""
        name = self.name(index)
        if name not in self.corrupt:
            self.corrupt[name] = str(reason)
            logger.warning(
                "skipped corrupt image %d (limit %d): %s: %s",
                len(self.corrupt),
                self.max_corrupt,
                printable(self.location(index)),
                reason,
            )
        check_limit(self.root, self.corrupt, self.max_corrupt)

    def subset(self, indices: Sequence[int] | Tensor) -> Self:
        """The images at ``indices``, in that order; nothing is decoded."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        part = copy.copy(self)
        part.names, part.labels = [self.names[i] for i in chosen.tolist()], self.labels[chosen]
        part.corrupt = {}
        return part

    def draw(self, count: int, seed: int) -> Self:
        """At most ``count`` images at random."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[:count])

    def digest(self) -> str:
        """SHA-256 (hex) of names, labels and file sizes (-1 of a file that is not there)."""
        hasher = hashlib.sha256()
        for name, label in zip(self.names, self.labels.tolist(), strict=True):
            size = -1
            with suppress(OSError):
                size = os.path.getsize(os.path.join(self.root, name))
            hasher.update(os.fsencode(f"{Path(name).as_posix()}\0{size}\0{label}\n"))
        return hasher.hexdigest()

    def quick_digest(self) -> str:
        """SHA-256 (hex) of all names and labels, and of the sizes of 4,096 files at most."""
        if len(self) <= SIZES:
            return self.digest()
        hasher = hashlib.sha256()
        for name, label in zip(self.names, self.labels.tolist(), strict=True):
            hasher.update(f"{name}\0{label}\n".encode(errors="surrogateescape"))
        chosen = torch.linspace(0, len(self) - 1, SIZES).long()
        hasher.update(self.subset(chosen).digest().encode())
        return hasher.hexdigest()

    def find_value_range(self, count: int = 512) -> ValueRange | None:
        """The one range of all grey values with more than 8 bits, by ``count`` images.

        Raises:
            DataError: If some images hold integers and some floating-point numbers.
        """
        places = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist()
        extents, dark = [], []
        for content in (content for place in places for content in self.contents([place])):
            with suppress(CorruptImage):
                if isinstance(content, bytes):
                    extents.append(extent(content))
                    dark.append(leaves_upper_bits(content))
        root, known = printable(str(self.root)), [d for d in dark if d is not None]
        if known and all(known):
            logger.warning(
                "%s: colour images of 16 bits that are darker than 1/16: only the upper eight bits "
                "are read, so convert images that hold 12 bits",
                root,
            )
        try:
            return common_range(e for e in extents if e is not None)
        except ValueError as error:
            raise DataError(f"{root}: {error}") from None

    def readable(self, indices: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Index and whole image of those that can be decoded; the others are counted."""
        for index, image in zip(indices, self.decoded(indices), strict=True):
            if isinstance(image, CorruptImage):
                self.note_corrupt(index, image)
            else:
                yield index, image

    def load(self) -> ImageArray:
        """Decode everything into memory with ``tensor``, without the damaged files."""
        return self.load_named()[0]

    def load_named(self) -> tuple[ImageArray, list[str]]:
        """As :meth:`load`, with the names of the images.

        Raises:
            DataError: If all files are damaged, or more than ``max_corrupt``.
        """
        made = {i: self.square(image) for i, image in self.readable(range(len(self)))}
        if not made:
            raise none_readable(self)
        array = ImageArray(torch.stack([*made.values()]), self.labels[[*made]], self.classes)
        return array, [self.name(i) for i in made]


def _content(path: str) -> bytes | CorruptImage:
    try:
        return read_file(path)
    except CorruptImage as error:
        return error


def none_readable(files: ImageFiles) -> DataError:
    """What to say of a split without a single image that can be decoded."""
    root = printable(str(files.root))
    return DataError(f"none of the {len(files)} images in {root} can be decoded")
