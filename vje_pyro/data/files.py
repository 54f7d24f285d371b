"""Images in files: decoding whatever people have in their folders, on demand or all at once."""

import hashlib
import logging
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from vje_pyro.data.arrays import UNLABELLED, ImageArray, images_to_uint8
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    ".bmp .gif .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)

_DAMAGE = (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError)
"""What Pillow raises on a damaged file (SyntaxError for some broken PNG and TIFF headers)."""


class CorruptImage(Exception):
    """A file that cannot be decoded; the message says why."""


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
        self.corrupt: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def location(self, index: int) -> str:
        """Where an image is."""
        return os.path.join(self.root, self.names[index])

    def image(self, index: int) -> Image.Image:
        """The whole image, upright, in mode RGB (or L).

        Raises:
            CorruptImage: if the file cannot be decoded.
        """
        return decode(self.location(index), self.channels)

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
            raise DataError(f"{self.location(index)}: {error}") from None

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
                self.location(index),
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
        )

    def draw(self, count: int, seed: int) -> "ImageFiles":
        """At most ``count`` images at random."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[:count])

    def digest(self) -> str:
        """SHA-256 (hex) of names, file sizes and labels; contents are too much to read for this."""
        hasher = hashlib.sha256()
        for name, label in zip(self.names, self.labels.tolist(), strict=True):
            size = os.path.getsize(os.path.join(self.root, name))
            hasher.update(f"{Path(name).as_posix()}\0{size}\0{label}\n".encode())
        return hasher.hexdigest()

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
            raise DataError(f"none of the {len(self)} images in {self.root} can be decoded")
        array = ImageArray(torch.stack(tensors), self.labels[kept], self.classes)
        return array, [self.names[i] for i in kept]


def decode(path: str | Path | IO[bytes], channels: int = 3) -> Image.Image:
    """Open an image of any mode as RGB (``channels=3``) or grey (``channels=1``), upright.

    Transparent images are laid on white; palettes, CMYK and other colour spaces are converted by
    Pillow; 16-bit grey keeps its upper 8 bits; floating point grey is read as [0, 1] or as [0, 255]
    where it exceeds one. Of an animation the first frame is taken.

    Raises:
        CorruptImage: if the file cannot be decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, not about pixels
            with Image.open(path) as file:
                file.load()
                return _convert(ImageOps.exif_transpose(file), channels)
    except Image.DecompressionBombError as error:
        raise CorruptImage(f"refused by Pillow: {error}") from None
    except _DAMAGE as error:
        raise CorruptImage(f"{type(error).__name__}: {error}") from None


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB" if channels == 3 else "L")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of more than 8 bits as uint8."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):
            raise ValueError(f"floating point values from {low:g} to {high:g}")
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ValueError(f"values from {low} to {high} are not 16-bit grey")
    return (values.astype(np.int64) >> 8).astype(np.uint8)


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


def list_images(folder: str | Path) -> list[str]:
    """All image files below ``folder``, by their suffix: relative names, sorted; hidden ones not.

    Raises:
        DataError: if the folder is absent or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder of images: {folder.absolute()}")
    names = sorted(_image_names(str(folder)))
    if not names:
        raise DataError(
            f"no image in {folder.absolute()} (looked for {' '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return names


def _image_names(folder: str, prefix: str = "") -> Iterator[str]:
    """Image files below a folder, each name after ``prefix``: a million of them in seconds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if entry.is_dir():
                yield from _image_names(entry.path, f"{prefix}{name}{os.sep}")
            elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield prefix + name


def load_images(
    path: str | Path, image_size: int, channels: int = 3, max_corrupt: int = 10
) -> tuple[ImageArray, list[str]]:
    """Read the images that a user points at: a folder, one image, or an array file.

    Args:
        path: A folder (searched with its subfolders), an image file, a ``.npy`` file, or a ``.npz``
            file with an array ``images`` or ``x`` (or a single array) and optionally ``labels`` or
            ``y``; arrays as ``images_to_uint8`` reads them.
        image_size: Height and width wanted; images are cropped to the central square first.
        channels: 3 or 1.
        max_corrupt: Damaged files of a folder that are skipped, and logged by name, before giving
            up.

    Returns:
        The images and, in the same order, the name of each: relative to the folder, or
        ``name[index]`` for an array.

    Raises:
        DataError: if there is nothing to read, or too much of it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        names, root = list_images(path), path
    elif not path.exists():
        raise DataError(f"no such image, folder or array file: {path.absolute()}")
    elif path.suffix.lower() in (".npy", ".npz"):
        return _load_arrays(path, image_size, channels)
    else:
        names, root, max_corrupt = [path.name], path.parent, 0
    labels = torch.full((len(names),), UNLABELLED)
    files = ImageFiles(
        root, names, labels, image_size=image_size, channels=channels, max_corrupt=max_corrupt
    )
    return files._load()


def _load_arrays(path: Path, image_size: int, channels: int) -> tuple[ImageArray, list[str]]:
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            arrays = {"images": stored} if isinstance(stored, np.ndarray) else dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable array file: {error}") from None
    pixels = next((arrays[k] for k in ("images", "x") if k in arrays), None)
    if pixels is None and len(arrays) == 1:
        pixels = next(iter(arrays.values()))
    if pixels is None:
        raise DataError(f"{path}: no array 'images' or 'x' among {sorted(arrays)}")
    try:
        images = images_to_uint8(pixels, channels, image_size)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    if not len(images):
        raise DataError(f"{path}: holds no images")
    return ImageArray(images, _labels_of(arrays, len(images))), [
        f"{path.name}[{i}]" for i in range(len(images))
    ]


def _labels_of(arrays: dict[str, np.ndarray], count: int) -> Tensor:
    labels = next((arrays[k] for k in ("labels", "y") if k in arrays), None)
    if labels is None or labels.shape != (count,) or labels.dtype.kind not in "iu":
        return torch.full((count,), UNLABELLED)
    return torch.from_numpy(labels.astype(np.int64))


def check_limit(root: str | Path, corrupt: Mapping[str, str], limit: int) -> None:
    """Give up on a split.

    Raises:
        DataError: if more of its images are ``corrupt`` (name to reason) than ``limit``.
    """
    if len(corrupt) <= limit:
        return
    shown = "; ".join(f"{name} ({reason})" for name, reason in list(corrupt.items())[:5])
    raise DataError(
        f"{len(corrupt)} corrupt images in {root}, more than max_corrupt={limit}: {shown}"
        f"{'; …' if len(corrupt) > 5 else ''}. Repair or remove them, or raise max_corrupt"
    )
