"""Decoding of image files: an exception of any kind is a damaged image, and stops no job.

Broken metadata (EXIF, XMP, ICC, text) is ignored.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from vje_pyro.data.metadata import without_metadata
from vje_pyro.data.value_ranges import ValueRange, to_eight_bits

_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow only identifies, gives to another program, or that hold any other format."""

_MAX_BYTES = 1 << 31
"""No file of more bytes is read: Pillow decodes up to 179 million pixels."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an orientation of EXIF."""


class CorruptImage(Exception):
    """A file that cannot be decoded; the message says why."""


def printable(name: str) -> str:
    """A file name as a line of text.

    Bytes that are no UTF-8 (surrogates, in Python) appear as ``\\xNN``, line breaks as ``\\n``.

    >>> print(printable("caf\\udce9.png"))
    caf\\xe9.png
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def image_formats() -> tuple[str, ...]:
    """The formats of Pillow that are pictures, in the order in which they are tried."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NO_PICTURES)


def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that can be read, lower case: all that Pillow opens as pictures."""
    formats = {*image_formats(), "MPO"}  # opened as the JPEG that it begins with
    return frozenset(s for s, name in Image.registered_extensions().items() if name in formats)


def open_file(path: str | Path) -> IO[bytes]:
    """Open a regular file; anything else, which may block, is an ``OSError``."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("not a regular file")
    return open(path, "rb")


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file; :class:`CorruptImage` if it cannot be read."""
    with _damaging(), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_BYTES:
            raise ValueError(f"{size:,} bytes are too many for an image")
        return file.read()


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height by a file's header; :class:`CorruptImage` if it cannot be read."""
    with (
        _damaging(),
        warnings.catch_warnings(action="ignore"),
        open_file(path) as file,
        Image.open(file, formats=image_formats()) as image,
    ):
        return image.size


def decode(
    file: str | Path | bytes, channels: int = 3, value_range: ValueRange | None = None
) -> Image.Image:
    """Open an image of any mode as RGB (``channels=3``) or grey (``channels=1``), upright.

    Transparent images are laid on white. Of an animation the first frame is taken.

    Args:
        file: A path, or the content of the file.
        channels: 3 or 1.
        value_range: Of grey values with more than 8 bits: what become black and white; None: 0 and
            65535 of integers, 0 and 1 of floating-point numbers.

    Raises:
        CorruptImage: If the file cannot be decoded, or has values that the range is not for.
    """
    image = _open(file if isinstance(file, bytes) else read_file(file))
    with _damaging(), warnings.catch_warnings(action="ignore"):
        return convert(image, channels, value_range)


def extent(content: bytes) -> ValueRange | None:
    """Least and greatest value of a grey image with more than 8 bits; None of all others.

    Raises:
        CorruptImage: If the file cannot be decoded, or a value is not finite.
    """
    with contextlib.suppress(Exception), _opened(content) as image:  # else metadata may be broken
        if not _is_wide(image.mode):
            return None
    pixels = _open(content)
    if not _is_wide(pixels.mode):
        return None
    values = np.asarray(pixels)
    if not np.isfinite(values).all():
        raise CorruptImage("values that are NaN or infinite")
    return values.min().item(), values.max().item()


def leaves_upper_bits(content: bytes) -> bool | None:
    """Whether a 16-bit colour image, of which Pillow keeps 8, leaves 4 unused; None of others."""
    with contextlib.suppress(Exception), _opened(content) as image:
        if not _is_wide(image.mode) and any(";16" in str(tile.args) for tile in image.tile):
            return bool(np.asarray(image.convert("RGB")).max() < 16)
    return None


def _open(content: bytes) -> Image.Image:
    """The upright image, with its pixels; without its metadata where these cannot be read."""
    with _damaging():
        try:
            return _load(content)
        except Exception as error:
            with contextlib.suppress(Exception):
                return _load(without_metadata(content))
            raise error


def _load(content: bytes) -> Image.Image:
    with _opened(content) as image:
        image.load()
        if not all(image.size):
            raise ValueError("the image has no pixels")
        turn = _UPRIGHT.get(_orientation(image))
        return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[ImageFile.ImageFile]:
    if not content:
        raise ValueError("the file is empty")
    # Pillow warns about odd metadata, not about pixels
    with (
        warnings.catch_warnings(action="ignore"),
        Image.open(io.BytesIO(content), formats=image_formats()) as image,
    ):
        yield image


def _orientation(image: Image.Image) -> int:
    """The orientation by EXIF; 1, upright, where it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def convert(
    image: Image.Image, channels: int, value_range: ValueRange | None = None
) -> Image.Image:
    """:func:`decode` of an open image; ValueError if it cannot be converted."""
    if _is_wide(image.mode):
        image = Image.fromarray(to_eight_bits(np.asarray(image), value_range))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB" if channels == 3 else "L")


def _is_wide(mode: str) -> bool:
    return mode in ("F", "I") or mode.startswith("I;16")


@contextlib.contextmanager
def _damaging() -> Iterator[None]:
    """Any exception means a damaged image."""
    try:
        yield
    except Exception as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CorruptImage(f"{type(error).__name__}: {said}") from None
