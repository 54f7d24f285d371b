import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageArray, ImageFolder, select_images
from vje_pyro.errors import DataError


def test_from_memory_in_the_order_asked_for():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 2)
    split = ImageArray(images, torch.zeros(5).long(), ())
    chosen, kept = select_images(split, [3, 1], 1, 2)
    assert chosen[:, 0, 0, 0].tolist() == kept.tolist() == [3, 1]


def test_from_disk_at_the_size_and_channels_asked_for(tmp_path):
    for name, value in [("a", 10), ("b", 200)]:
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(np.full((6, 8), value, dtype=np.uint8)).save(folder / "x.png")
    split = ImageFolder(tmp_path, image_size=4).split("train")
    chosen, kept = select_images(split, torch.tensor([1, 0]), 3, 4)
    assert kept.tolist() == [1, 0]
    assert chosen.shape == (2, 3, 4, 4)
    assert chosen.dtype == torch.uint8
    assert chosen[:, 0, 0, 0].tolist() == [200, 10]


def test_damaged_images_are_left_out_and_named(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.full((6, 8), 30, dtype=np.uint8)).save(tmp_path / name)
    split = ImageFolder(tmp_path, max_corrupt=1).split("train")
    (tmp_path / "b.png").unlink()  # vanishes after it was listed
    chosen, kept = select_images(split, [2, 1, 0, 2], 3, 4)
    assert kept.tolist() == [2, 0, 2]
    assert len(chosen) == 3
    assert list(split.corrupt) == ["b.png"]
    with pytest.raises(DataError, match="none of the 3 images"):
        select_images(split, [1, 1], 3, 4)
    (tmp_path / "c.png").unlink()
    with pytest.raises(DataError, match=r"2 corrupt images.*max_corrupt=1: b\.png.*c\.png"):
        select_images(split, [0, 1, 2], 3, 4)
