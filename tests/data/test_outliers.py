"""Out-of-distribution sets go the way of the run's own images."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import (
    DataSource,
    Digits,
    ImageArray,
    ImageFolder,
    OneClass,
    images_to_uint8,
    list_outliers,
    read_label_entropy,
    read_outliers,
)
from vje_pyro.data.outliers import SOURCES
from vje_pyro.errors import DataError


@dataclass
class Source(DataSource):
    """Colour images of 32 pixels in memory, as the sources of torchvision are."""

    image_size: int = 16

    name, channels, num_classes = "toy", 3, 4
    mean, std = (0.5,) * 3, (0.25,) * 3
    splits = {"pretrain": "train", "train": "train", "test": "test"}  # noqa: RUF012

    def _load(self, stored):
        rng = np.random.default_rng(len(stored))
        pixels = torch.from_numpy(rng.integers(0, 256, (40, 3, 32, 32), np.uint8))
        return ImageArray(pixels, torch.arange(40) % 4)


def save(root, name, images):
    (root / "ood").mkdir(exist_ok=True)
    np.savez(root / "ood" / f"{name}.npz", x=images, y=np.zeros(len(images), np.uint8))


@pytest.mark.parametrize("size", [16, 24, 32])
def test_the_runs_own_images_as_a_set_come_out_the_same(tmp_path, size):
    """One path for all: no resizing or conversion tells a set apart."""
    source = Source(size)
    native = source._load("test").images
    save(tmp_path, "own", native.permute(0, 2, 3, 1).numpy())
    assert torch.equal(read_outliers("own", tmp_path, source).images, source.split("test").images)


def test_grey_images_of_another_size(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    save(tmp_path, "mnist", grey)
    images = read_outliers("mnist", tmp_path, Source()).images
    assert images.shape == (5, 3, 16, 16)
    assert torch.equal(images[:, 0], images[:, 2])
    save(tmp_path, "colour", grey[..., None].repeat(3, -1))
    assert torch.equal(read_outliers("colour", tmp_path, Source()).images, images)
    to_grey = read_outliers("colour", tmp_path, Digits(image_size=14)).images
    boxes = grey.reshape(5, 14, 2, 14, 2).mean((2, 4))
    assert to_grey.shape == (5, 1, 14, 14)
    assert np.abs(to_grey[:, 0].numpy() - boxes).max() <= 1


def test_a_set_of_torchvision(tmp_path, monkeypatch):
    class Other(Source):
        def __init__(self, root):
            assert root == tmp_path
            super().__init__(image_size=32)

    monkeypatch.setitem(SOURCES, "other", Other)
    source = Source(16)
    made = read_outliers("other", tmp_path, source)
    assert torch.equal(made.images, source.split("test").images)
    assert set(SOURCES) >= {"cifar10", "cifar100", "svhn"}


def test_textures_of_any_size(tmp_path, monkeypatch):
    class Textures(list):
        classes = ("banded", "woven")

    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    pictures = Textures((Image.fromarray(p), i) for i, p in enumerate(pixels))
    monkeypatch.setattr("torchvision.datasets.DTD", lambda *a, **k: pictures)
    made = read_outliers("dtd", tmp_path, Source(16))
    central = torch.from_numpy(pixels[:, :, 8:56]).permute(0, 3, 1, 2)
    assert torch.equal(made.images, images_to_uint8(central, 3, 16))
    assert (made.labels.tolist(), made.classes) == ([0, 1], ("banded", "woven"))


def test_names(tmp_path):
    with pytest.raises(DataError, match="no out-of-distribution set in"):
        list_outliers(tmp_path)
    for name in ("b", "a"):
        save(tmp_path, name, np.zeros((2, 8, 8), np.uint8))
    assert list_outliers(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"no out-of-distribution set 'nothing'.*one of cifar10"),
        ("bad", "not a readable array file"),
        ("svhn", "SVHN"),
        ("dtd", "cannot read DTD"),
    ],
)
def test_absent_and_damaged_sets(tmp_path, name, message):
    (tmp_path / "ood").mkdir()
    (tmp_path / "ood" / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=message):
        read_outliers(name, tmp_path, Source())


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in "ab":
            place = tmp_path / part / label
            place.mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("in_memory", [False, True])
def test_files_are_decoded_like_the_runs_files(folder, in_memory):
    source = ImageFolder(str(folder), image_size=8, in_memory=in_memory)
    made = read_outliers(str(folder / "test"), "nowhere", source)
    own = source.split("test")
    if in_memory:
        assert torch.equal(made.images, own.images)
    else:
        assert all(torch.equal(made.tensor(i), own.tensor(i)) for i in range(len(own)))
    assert (made.labels == -1).all()


def test_files_and_arrays_do_not_mix(folder, tmp_path):
    with pytest.raises(DataError, match=r"read from image files.*name a folder"):
        read_outliers("mnist", tmp_path, ImageFolder(str(folder)))
    with pytest.raises(DataError, match=r"not read from image files.*ROOT/ood/NAME.npz"):
        read_outliers(str(folder / "test"), tmp_path, Source())


def test_positions_of_a_limited_split():
    whole, part = Source().split("test"), Source(test_limit=10)
    positions = part.positions("test")
    assert positions.shape == (10,)
    assert torch.equal(whole.images[positions], part.split("test").images)
    for limit in (None, 40, 100):
        assert torch.equal(Source(test_limit=limit).positions("test"), torch.arange(40))


def test_one_class():
    source = OneClass(Source(train_limit=20), 3)
    assert source.split("train").labels.tolist() == [3] * 5
    assert torch.equal(source.split("pretrain").images, source.split("train").images)
    assert source.split("test").labels.bincount().tolist() == [10] * 4
    assert (source.name, source.channels, source.image_size) == ("toy", 3, 16)
    assert torch.equal(source.positions("test"), torch.arange(40))
    with pytest.raises(DataError, match=r"no image of class 7 .* has the classes \[0, 1, 2, 3\]"):
        OneClass(Source(), 7).split("train")
    with pytest.raises(DataError, match="no split 'val'"):
        source.split("val")


PROBS = np.zeros((10_000, 10))
PROBS[:, 0] = 1
PROBS[1, :2] = 0.5
PROBS[2] = 0.1


def test_label_entropy(tmp_path):
    np.savez(tmp_path / "labels.npz", probs=PROBS)
    entropy = read_label_entropy(tmp_path / "labels.npz")
    assert entropy[:4].tolist() == pytest.approx([0, np.log(2), np.log(10), 0])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no human labels at"),
        (lambda path: np.savez(path, probs=PROBS[:5]), r"got shape \(5, 10\)"),
        (lambda path: np.savez(path, probs=2 * PROBS), "sum to one"),
        (lambda path: np.savez(path, probs=PROBS * np.nan), "sum to one"),
        (lambda path: np.savez(path, other=PROBS), "not a readable file"),
        (lambda path: path.write_bytes(pickle.dumps({"probs": 1})), "not a readable file"),
    ],
)
def test_label_entropy_refuses(tmp_path, write, message):
    write(tmp_path / "labels.npz")
    with pytest.raises(DataError, match=message):
        read_label_entropy(tmp_path / "labels.npz")
