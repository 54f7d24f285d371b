"""Tar shards of made-up images."""

import io
import json
import tarfile

from PIL import Image


def picture(value, format="PNG", mode="RGB"):
    """A file's bytes: an image that is all of one grey value."""
    buffer = io.BytesIO()
    Image.new("L", (12, 10), value).convert(mode).save(buffer, format)
    return buffer.getvalue()


def write_tar(path, members):
    """A tar file of (name, content) pairs."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def write_shards(root, counts, name="train", label="cls"):
    """Shards ``NAME-000.tar`` … of images whose grey value counts them through."""
    for number, count in enumerate(counts):
        members, first = [], sum(counts[:number])
        for value in range(first, first + count):
            members.append((f"{value:06d}.png", picture(value)))
            if label == "cls":
                members.append((f"{value:06d}.cls", str(value % 3).encode()))
            elif label == "json":
                content = {"label": "cat" if value % 2 else "ant", "x": 1}
                members.append((f"{value:06d}.json", json.dumps(content).encode()))
        write_tar(root / f"{name}-{number:03d}.tar", members)
    return root
