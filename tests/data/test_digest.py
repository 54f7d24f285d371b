"""The quick digest of a split: what it sees, and what it reads."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageArray, ImageFiles, digest


@pytest.fixture
def files(tmp_path):
    names = [f"{i:02}.png" for i in range(20)]
    for i, name in enumerate(names):
        pixels = np.full((4, 4 + i, 3), i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return lambda names=names, labels=None: ImageFiles(
        tmp_path,
        names,
        torch.zeros(len(names)).long() if labels is None else labels,
        image_size=4,
        channels=3,
    )


@pytest.mark.parametrize("sizes", [5, 100])
def test_names_labels_and_sizes_change_it(files, sizes, monkeypatch, tmp_path):
    monkeypatch.setattr(digest, "SIZES", sizes)
    first = digest.quick_digest(files())
    assert first == digest.quick_digest(files())
    os.utime(tmp_path / "03.png")  # a copy of the data is the data
    assert first == digest.quick_digest(files())
    names = [f"{i:02}.png" for i in range(19)]
    labels = torch.zeros(20).long()
    labels[7] = 1
    (tmp_path / "00.png").write_bytes(b"longer than before" * 100)
    others = {digest.quick_digest(s) for s in (files(names), files(labels=labels), files())}
    assert len({first, *others}) == 4


def test_few_sizes_are_read_of_many_files(files, monkeypatch):
    monkeypatch.setattr(digest, "SIZES", 5)
    read, getsize = [], os.path.getsize
    monkeypatch.setattr(os.path, "getsize", lambda path: read.append(path) or getsize(path))
    digest.quick_digest(files())
    assert len(read) <= 5


def test_of_images_in_memory_it_is_their_digest():
    split = ImageArray(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    assert digest.quick_digest(split) == split.digest()
