"""Tar shards made in a moment."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(value, suffix="png", size=(12, 10)):
    """A file's bytes: an image that is all of one grey value."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8))
    image.save(buffer, {"png": "PNG", "jpg": "JPEG"}[suffix])
    return buffer.getvalue()


def write_tar(path, members):
    """A tar file of (name, content) pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
