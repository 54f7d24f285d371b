"""Images that a user points at, and unlabelled images beside a data set."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vje_pyro.data.array_files import open_arrays
from vje_pyro.data.arrays import UNLABELLED, ImageArray, images_to_uint8
from vje_pyro.data.decoding import printable
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.searching import search_folder
from vje_pyro.data.value_ranges import ValueRange
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)


def load_images(
    path: str | Path,
    image_size: int,
    channels: int = 3,
    max_corrupt: int = 10,
    value_range: ValueRange | None = None,
) -> tuple[ImageArray, list[str]]:
    """Read the images that a user points at: a folder, one image, or an array file.

    Args:
        path: A folder (searched with its subfolders), an image file, a ``.npy`` file, or a ``.npz``
            file with an array ``images`` or ``x`` (or a single array) and optionally ``labels`` or
            ``y``; arrays as ``images_to_uint8`` reads them.
        image_size: Height and width wanted; images are cropped to the central square first.
        channels: 3 or 1.
        max_corrupt: Damaged files of a folder that are skipped before giving up.
        value_range: Of grey values with more than 8 bits, as for ``decode``; None: that of the
            files (``find_value_range``).

    Returns:
        The images and the name of each: relative to the folder, or ``name[index]`` for an array.

    Raises:
        DataError: If there is nothing to read, or too much of it is damaged.
    """
    split, names = open_images(path, image_size, channels, max_corrupt, value_range)
    return split.load_named() if isinstance(split, ImageFiles) else (split, names)


def open_images(
    path: str | Path,
    image_size: int,
    channels: int = 3,
    max_corrupt: int = 10,
    value_range: ValueRange | None = None,
    crop_fraction: float = 1.0,
) -> tuple[ImageArray | ImageFiles, list[str]]:
    """As :func:`load_images`, but files stay on the disk until they are asked for."""
    path = Path(path)
    if os.path.isdir(path):
        names, root = search_folder(path, max_corrupt).images(), path
    elif not os.path.lexists(path):
        raise DataError(f"no such image, folder or array file: {printable(str(path.absolute()))}")
    elif path.suffix.lower() in (".npy", ".npz"):
        array = _load_arrays(path, image_size, channels, value_range)
        return array, [f"{path.name}[{i}]" for i in range(len(array))]
    else:
        names, root, max_corrupt = [path.name], path.parent, 0
    files = folder_files(
        root, names, image_size=image_size, channels=channels, max_corrupt=max_corrupt,
        value_range=value_range, crop_fraction=crop_fraction,
    )  # fmt: skip
    return files, names


def folder_files(root: str | Path, names: Sequence[str], **decoding: Any) -> ImageFiles:
    """Unlabelled ``ImageFiles`` beside a data set, in its value range or else in their own."""
    files = ImageFiles(root, names, torch.full((len(names),), UNLABELLED), **decoding)
    if files.value_range is None:
        files.value_range = files.find_value_range()
        if files.value_range is not None:
            logger.warning(
                "%s: grey values of more than 8 bits, of which %g is black and %g white",
                printable(str(root)),
                *files.value_range,
            )
    return files


def _load_arrays(
    path: Path, image_size: int, channels: int, value_range: ValueRange | None
) -> ImageArray:
    shown = printable(str(path))
    with open_arrays(path) as arrays:
        names = sorted(arrays)
        only = names if len(names) == 1 else []
        pixels = next((arrays[name] for name in ("images", "x", *only) if name in names), None)
        labels = next((arrays[name] for name in ("labels", "y") if name in names), None)
    if pixels is None:
        raise DataError(f"{shown}: no array 'images' or 'x' among {names}")
    try:
        images = images_to_uint8(pixels, channels, image_size, value_range)
    except (TypeError, ValueError) as error:
        raise DataError(f"{shown}: {error}") from None
    if not len(images):
        raise DataError(f"{shown}: holds no images")
    if labels is None or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        labels = np.full(len(images), UNLABELLED)
    return ImageArray(images, torch.from_numpy(labels.astype(np.int64)))
