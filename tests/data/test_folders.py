"""Folders of images: ImageNet's layout, and any that a user has."""

import numpy as np
import pytest
from PIL import Image

from vje_pyro.data import ImageArray, ImageFiles, ImageFolder, ImageNet, WebDataset
from vje_pyro.errors import DataError


def fill(root, *folders, count=4):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = np.full((10 + i, 14, 3), i * 20, np.uint8)
            Image.fromarray(shade).save(root / folder / f"{i}.png")
    return root


def test_imagenet(tmp_path):
    fill(tmp_path, "train/n02", "train/n01", "test", count=3)
    fill(tmp_path, "val/n01", "val/n02", count=2)
    source = ImageNet(tmp_path, image_size=16)
    train = source.split("train")
    assert isinstance(train, ImageFiles)
    assert train.classes == ("n01", "n02")
    assert (source.num_classes, source.find_value_range()) == (2, None)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.names[3] == "n02/0.png"
    assert train.crop_fraction == 0.875
    assert source.split("pretrain") is train
    assert source.split("test") is source.split("val")
    assert source.describe()[0] == "train: 6 images of 2 classes (n01 3, n02 3), in train"
    image, label = source.split("val")[3]
    assert (tuple(image.shape), image.unique().tolist(), label) == ((3, 16, 16), [20], 1)
    few = ImageNet(tmp_path, train_limit=4, test_limit=2)
    assert few.image_size == 224
    assert few.split("train").labels.bincount().tolist() == [2, 2]
    assert few.split("val").labels.bincount().tolist() == [1, 1]


SPLITS = ["train/cat", "train/dog", "val/dog", "unlabeled"]


@pytest.mark.parametrize(
    ("folders", "options", "split", "labels", "classes"),
    [
        (["."], {}, "train", [-1] * 4, ()),
        (["cat", "dog"], {}, "train", [0] * 4 + [1] * 4, ("cat", "dog")),
        (SPLITS, {}, "pretrain", [-1] * 4, ("cat", "dog")),
        (SPLITS, {}, "test", [1] * 4, ("cat", "dog")),  # numbered as in train
    ],
)  # fmt: skip
def test_layouts(tmp_path, folders, options, split, labels, classes):
    source = ImageFolder(fill(tmp_path, *folders), image_size=8, **options)
    made = source.split(split)
    assert (made.labels.tolist(), made.classes) == (labels, classes)
    assert source.num_classes == len(classes)
    if "val" in source.splits:
        assert source.split("test") is source.split("val")
    else:
        assert source.split("pretrain") is source.split("train")


def test_test_fraction_is_stratified_and_disjoint(tmp_path):
    source = ImageFolder(fill(tmp_path, "cat", "dog", count=10), image_size=8, test_fraction=0.2)
    train, test = source.split("train"), source.split("test")
    assert test.labels.bincount().tolist() == [2, 2]
    assert sorted(train.names + test.names) == sorted(ImageFolder(tmp_path).split("train").names)
    again = ImageFolder(tmp_path, test_fraction=0.2)
    assert again.split("test").names == test.names


def test_in_memory_and_grey(tmp_path):
    fill(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "0.png").write_bytes(b"damaged")
    options = {"image_size": 8, "channels": 1, "in_memory": True}
    source = ImageFolder(tmp_path, max_corrupt=1, **options)
    split = source.split("train")
    assert isinstance(split, ImageArray)
    assert split.images.shape == (7, 1, 8, 8)
    assert split.classes == ("cat", "dog")
    assert (len(source.mean), len(source.std)) == (1, 1)
    with pytest.raises(DataError, match=r"0\.png.*max_corrupt"):
        ImageFolder(tmp_path, max_corrupt=0, **options).split("train")
    given = ImageFolder(tmp_path, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (1, 1, 1))


@pytest.mark.parametrize(
    ("kind", "folders", "options", "split", "message"),
    [
        (ImageNet, [], {}, "train", r"train is not a folder.*data\.root"),
        (ImageNet, ["train/a"], {}, "test", "val is not a folder"),
        (ImageFolder, None, {}, "train", r"absent; set data\.root"),
        (ImageFolder, ["."], {}, "test", r"no test split.*data\.test_fraction=0\.2"),
        (ImageFolder, ["train/a"], {"test_fraction": 0.5}, "test", "in a folder test beside train"),
        (ImageFolder, ["."], {}, "valid", "choose from pretrain, train"),
        (ImageFolder, ["a", "b"], {"test_fraction": 0.1}, "train", "cannot keep test_fraction"),
    ],
)
def test_what_is_absent(tmp_path, kind, folders, options, split, message):
    root = fill(tmp_path, *folders) if folders is not None else tmp_path / "absent"
    with pytest.raises(DataError, match=message):
        kind(root, **options).split(split)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"channels": 4}, "channels=4: must be at most 3"),
        ({"test_fraction": 1.0}, "test_fraction=1.0: must be below 1"),
        ({"train_limit": 0}, "train_limit=0: must be at least 1"),
        ({"image_size": 0}, "image_size=0"),
        ({"crop_fraction": 0}, "crop_fraction=0: must be above 0"),
        ({"std": [1, 0, 1]}, "std="),
        ({"value_range": [1, 0]}, "value_range must be"),
        ({"layout": "flat"}, "layout=flat"),
        ({"max_corrupt": -1}, "max_corrupt=-1"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(tmp_path, **options)
    if not options.keys() & {"layout", "test_fraction"}:
        with pytest.raises(ValueError, match=message):
            WebDataset(str(tmp_path), "a.tar", **options)
