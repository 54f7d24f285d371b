import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageArray, ImageFiles, ImageFolder, ImageNet
from vje_pyro.errors import DataError


def fill(root, *folders, count=4):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = np.full((10 + i, 14, 3), i * 20, np.uint8)
            Image.fromarray(shade).save(root / folder / f"{i}.png")
    return root


def test_imagenet_layout(tmp_path):
    fill(tmp_path, "train/n02", "train/n01", count=3)
    fill(tmp_path, "val/n01", "val/n02", count=2)
    source = ImageNet(tmp_path, image_size=16)
    train = source.split("train")
    assert isinstance(train, ImageFiles)
    assert train.classes == ("n01", "n02")
    assert source.num_classes == 2
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.names[3] == "n02/0.png"
    assert train.crop_fraction == 0.875
    assert source.split("pretrain") is train
    assert source.split("test") is source.split("val")
    assert len(source.split("val")) == 4
    image, label = source.split("val")[3]
    assert image.shape == (3, 16, 16)
    assert image.unique().tolist() == [20]
    assert label == 1


def test_imagenet_limits_are_balanced(tmp_path):
    fill(tmp_path, "train/a", "train/b", "val/a", "val/b")
    source = ImageNet(tmp_path, train_limit=4, test_limit=2)
    assert source.split("train").labels.bincount().tolist() == [2, 2]
    assert source.split("val").labels.bincount().tolist() == [1, 1]


def test_imagenet_absent(tmp_path):
    with pytest.raises(DataError, match=r"train is not a folder.*data\.root"):
        ImageNet(tmp_path / "none").split("train")
    fill(tmp_path, "train/a")
    with pytest.raises(DataError, match="val is not a folder"):
        ImageNet(tmp_path).split("test")


def test_flat_folder_is_unlabelled(tmp_path):
    source = ImageFolder(fill(tmp_path, "."), image_size=8)
    assert source.split("pretrain").labels.tolist() == [-1] * 4
    assert source.num_classes == 0
    assert source.split("pretrain") is source.split("train")
    with pytest.raises(DataError, match=r"no test split.*data\.test_fraction=0\.2"):
        source.split("test")
    with pytest.raises(DataError, match="choose from pretrain, train"):
        source.split("valid")


def test_subfolders_are_classes(tmp_path):
    source = ImageFolder(fill(tmp_path, "cat", "dog"), image_size=8)
    assert source.split("train").classes == ("cat", "dog")
    assert source.split("train").labels.tolist() == [0] * 4 + [1] * 4
    assert source.num_classes == 2


def test_test_fraction_is_stratified_and_disjoint(tmp_path):
    source = ImageFolder(fill(tmp_path, "cat", "dog", count=10), image_size=8, test_fraction=0.2)
    train, test = source.split("train"), source.split("test")
    assert test.labels.bincount().tolist() == [2, 2]
    assert sorted(train.names + test.names) == sorted(ImageFolder(tmp_path).split("train").names)
    again = ImageFolder(tmp_path, test_fraction=0.2)
    assert again.split("test").names == test.names
    few = ImageFolder(fill(tmp_path / "few", "a", count=1), test_fraction=0.2)
    with pytest.raises(DataError, match=r"test_fraction=0\.2"):
        few.split("train")


def test_split_folders(tmp_path):
    fill(tmp_path, "train/cat", "train/dog", "val/dog", "unlabeled")
    source = ImageFolder(tmp_path, image_size=8)
    assert set(source.splits) == {"pretrain", "train", "val", "test"}
    assert source.split("pretrain").labels.tolist() == [-1] * 4
    assert source.split("test") is source.split("val")
    assert source.split("test").labels.tolist() == [1] * 4  # numbered as in train


def test_in_memory_and_grey(tmp_path):
    fill(tmp_path, "cat", "dog")
    source = ImageFolder(tmp_path, image_size=8, channels=1, in_memory=True, train_limit=4)
    split = source.split("train")
    assert isinstance(split, ImageArray)
    assert split.images.shape == (4, 1, 8, 8)
    assert split.classes == ("cat", "dog")
    assert (len(source.mean), len(source.std)) == (1, 1)


def test_corrupt_files_up_to_the_limit(tmp_path):
    fill(tmp_path, "cat")
    (tmp_path / "cat" / "0.png").write_bytes(b"damaged")
    source = ImageFolder(tmp_path, image_size=8, in_memory=True, max_corrupt=1)
    assert len(source.split("train")) == 3
    with pytest.raises(DataError, match=r"0\.png.*max_corrupt"):
        ImageFolder(tmp_path, image_size=8, in_memory=True, max_corrupt=0).split("train")


def test_absent_folder_and_bad_arguments(tmp_path):
    with pytest.raises(DataError, match=r"absent; set data\.root"):
        ImageFolder(tmp_path / "absent").split("train")
    with pytest.raises(ValueError, match="channels"):
        ImageFolder(tmp_path, channels=2)
    with pytest.raises(ValueError, match="test_fraction"):
        ImageFolder(tmp_path, test_fraction=1.0)
    with pytest.raises(ValueError, match="train_limit"):
        ImageFolder(tmp_path, train_limit=0)


def test_statistics_may_be_given(tmp_path):
    source = ImageFolder(tmp_path, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    assert source.mean == (0.1, 0.2, 0.3)
    assert torch.tensor(source.std).sum() == 3
