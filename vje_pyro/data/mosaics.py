"""Reader of mosaic packs: small images as tiles of a few lossless pictures in a ZIP file.

A pack holds ``meta.json`` (``n``, ``tile`` [height, width], ``channels``, ``classes``), pictures
``m0000.webp`` … whose tiles run row by row in pack order, and ``labels.npy`` and ``index.npy``
(position in the official split), one entry a tile.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vje_pyro.data.arrays import UNLABELLED, ImageArray
from vje_pyro.errors import DataError


def read_mosaics(paths: Sequence[str | Path], official_order: bool = True) -> ImageArray:
    """Read packs that together make one split.

    Args:
        paths: ZIP files; all of one tile size and number of channels.
        official_order: Sort by the official positions where the packs give them.

    Returns:
        The images in pack order, or in the official order.

    Raises:
        DataError: if a pack is damaged or not of this format.
    """
    packs = [_read_pack(Path(path)) for path in paths]
    images = np.concatenate([pack["images"] for pack in packs])
    labels = np.concatenate([pack["labels"] for pack in packs])
    positions = np.concatenate([pack["index"] for pack in packs])
    if official_order and (positions >= 0).all():
        order = np.argsort(positions, kind="stable")
        images, labels = images[order], labels[order]
    return ImageArray(
        torch.from_numpy(images), torch.from_numpy(labels), packs[0]["meta"].get("classes", ())
    )


def _read_pack(path: Path) -> dict:
    try:
        with zipfile.ZipFile(path) as pack:
            meta = json.loads(pack.read("meta.json"))
            meta["classes"] = tuple(meta.get("classes", ()))
            members = sorted(n for n in pack.namelist() if n.startswith("m") and "." in n)
            pictures = [n for n in members if not n.endswith(".json")]
            tiles = np.concatenate([_tiles(pack.read(name), meta) for name in pictures])
            n = meta["n"]
            if len(tiles) < n:
                raise ValueError(f"{len(tiles)} tiles where meta.json says {n}")
            return {
                "images": tiles[:n],
                "labels": _column(pack, "labels.npy", n, UNLABELLED),
                "index": _column(pack, "index.npy", n, -1),
                "meta": meta,
            }
    except Exception as error:  # of the archive, the pictures or the arrays
        raise DataError(f"{path}: not a readable mosaic pack: {error}") from None


def _tiles(encoded: bytes, meta: dict) -> np.ndarray:
    """Tiles of one picture, uint8 ``(n, C, h, w)``."""
    (height, width), channels = meta["tile"], meta["channels"]
    with Image.open(io.BytesIO(encoded)) as picture:
        pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels.reshape(rows, height, columns, width, channels)
    return grid.transpose(0, 2, 4, 1, 3).reshape(rows * columns, channels, height, width)


def _column(pack: zipfile.ZipFile, name: str, n: int, missing: int) -> np.ndarray:
    if name not in pack.namelist():
        return np.full(n, missing, dtype=np.int64)
    values = np.load(io.BytesIO(pack.read(name)), allow_pickle=False).astype(np.int64)
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {values.shape}, not ({n},)")
    return values
