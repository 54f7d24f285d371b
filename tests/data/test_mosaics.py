import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from vje_pyro.data import CIFAR10, read_mosaics
from vje_pyro.errors import DataError


def tiles(n, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, channels), np.uint8)


def write_pack(path, images, labels, index=None, columns=3, rows=2, **meta):
    """A pack of the format in the reader's docstring; the last picture is partly empty."""
    n, height, width, channels = images.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as pack:
        facts = {"n": n, "tile": [height, width], "cols": columns, "channels": channels} | meta
        pack.writestr("meta.json", json.dumps(facts))
        per = rows * columns
        for number, start in enumerate(range(0, n, per)):
            grid = np.zeros((rows * height, columns * width, channels), np.uint8)
            for i, tile in enumerate(images[start : start + per]):
                y, x = i // columns * height, i % columns * width
                grid[y : y + height, x : x + width] = tile
            picture = io.BytesIO()
            Image.fromarray(grid.squeeze()).save(picture, "PNG")
            pack.writestr(f"m{number:04d}.png", picture.getvalue())
        for name, values in (("labels", labels), ("index", index)):
            if values is not None:
                column = io.BytesIO()
                np.save(column, np.asarray(values, np.uint16))
                pack.writestr(f"{name}.npy", column.getvalue())
    return path


def test_tiles_labels_and_classes(tmp_path):
    images = tiles(8, 3)
    path = write_pack(tmp_path / "a.zip", images, range(8), classes=["x", "y"])
    read = read_mosaics([path])
    assert np.array_equal(read.images.numpy(), images.transpose(0, 3, 1, 2))
    assert read.labels.tolist() == list(range(8))
    assert read.classes == ("x", "y")


def test_grey_without_labels(tmp_path):
    read = read_mosaics([write_pack(tmp_path / "a.zip", tiles(3, 1), None)])
    assert np.array_equal(read.images.numpy(), tiles(3, 1).transpose(0, 3, 1, 2))
    assert read.labels.tolist() == [-1] * 3


def test_official_order(tmp_path):
    one = write_pack(tmp_path / "a.zip", tiles(2, 3, 0), [5, 6], index=[3, 0])
    two = write_pack(tmp_path / "b.zip", tiles(2, 3, 1), [7, 8], index=[1, 2])
    assert read_mosaics([one, two]).labels.tolist() == [6, 7, 8, 5]
    assert read_mosaics([one, two], official_order=False).labels.tolist() == [5, 6, 7, 8]


def test_damaged_packs(tmp_path):
    path = write_pack(tmp_path / "a.zip", tiles(3, 3), range(3))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"a\.zip: not a readable mosaic pack"):
        read_mosaics([path])
    short = write_pack(tmp_path / "b.zip", tiles(3, 3), range(3), n=50)
    with pytest.raises(DataError, match="6 tiles where"):
        read_mosaics([short])
    ragged = write_pack(tmp_path / "c.zip", tiles(3, 3), range(2))
    with pytest.raises(DataError, match=r"labels\.npy"):
        read_mosaics([ragged])


def test_cifar10_reads_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "sizes", {"train": 6, "test": 2})
    folder = tmp_path / "cifar10"
    write_pack(folder / "cifar10_train_00.zip", tiles(3, 3, 0), [0, 1, 2], index=[0, 1, 2])
    with pytest.raises(DataError, match="1 packs hold 3 of 6 images"):
        CIFAR10(tmp_path).split("train")
    write_pack(folder / "cifar10_train_01.zip", tiles(3, 3, 1), [3, 4, 5], index=[3, 4, 5])
    assert CIFAR10(tmp_path).split("train").labels.tolist() == list(range(6))
    with pytest.raises(DataError, match="test split"):
        CIFAR10(tmp_path).split("test")
