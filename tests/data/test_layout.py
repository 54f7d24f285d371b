"""Splits or classes: recognised, or refused with the ways out; never mixed in silence."""

import re

import numpy as np
import pytest
from PIL import Image

from vje_pyro.data import ImageFolder
from vje_pyro.data.layout import role_of, split_folders
from vje_pyro.errors import DataError


def images(*folders):
    return [f"{folder}/{i}.png" for folder in folders for i in range(2)]


@pytest.mark.parametrize(
    ("train", "test", "role"),
    [
        ("train", "test", "test"),
        ("Training", "Testing", "test"),
        ("TRAIN", "VAL", "val"),
        ("Train", "Valid", "val"),
        ("training_set", "test_set", "test"),
        ("train-images", "validation-images", "val"),
        ("trainset", "testset", "test"),
        ("imgs_train", "imgs_test", "test"),
        ("TrainData", "TestData", "test"),
        ("seg_train", "seg_test", "test"),
        ("train2017", "val2017", "val"),
        ("trainval", "test", "test"),
        ("train_val", "test", "test"),
    ],
)
def test_pairs_are_splits(train, test, role):
    names = images(f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b")
    assert split_folders("root", names) == {"train": train, role: test}
    flat = images(train, test)
    assert split_folders("root", flat) == {"train": train, role: test}
    assert split_folders("root", names, "classes") == {}


@pytest.mark.parametrize(
    "names",
    [
        images("cat", "dog"),
        images("trainer", "tester", "contest"),
        images("training wheels", "bus"),
        images("bus", "car", "train"),  # vehicles
        ["0.png", "1.png"],
    ],
)
def test_classes(names):
    assert split_folders("root", names) == {}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (images("train/a", "bus/b"), "train, named like splits, beside bus"),
        (images("train", "test", "bus"), "test, train, named like splits, beside bus"),
        (images("unlabeled", "cat"), "unlabeled, named like splits, beside cat"),
        (images("val/a", "test/a"), "but no folder train"),
        (images("test"), "but no folder train"),
        (images("train/a", "Training/a"), "several folders for one split"),
        (images("train/a", "val/a", "validation/a"), "several folders for one split"),
        (images("Training", "PublicTest", "PrivateTest"), "in different"),
        (images("train2017", "val2014"), "in different"),
        (images("test", "match", "training day"), "in different.*data.layout=classes"),
        (images("a_train", "a_test", "b_train", "b_test"), "in different"),
        (images("data/train/a", "data/test/a"), "data.root=.*/data, or arrange"),
        (images("cat/train", "cat/test", "dog/train", "dog/test"), "which would be mixed"),
        (images("x/y/Training", "x/y/Testing"), "which would be mixed"),
        (images("train/a/train", "train/a/val", "test/a"), "which would be mixed"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(names, message):
    with pytest.raises(DataError, match=message):
        split_folders("root", names)
    assert split_folders("root", names, "classes") == {}


def test_the_layout_can_be_said():
    names = images("train/a", "bus/b")
    assert split_folders("root", names, "splits") == {"train": "train"}
    with pytest.raises(DataError, match="no folders that are named like splits"):
        split_folders("root", images("cat"), "splits")


def test_a_split_inside_a_folder_of_its_name():
    names = images("train/train/a", "test/test")
    assert split_folders("root", names) == {"train": "train/train", "test": "test/test"}


def test_what_lies_in_folders_that_are_passed_over_does_not_matter():
    names = images("train/a", "test/a", "old/train/a", "old/test/a")
    assert split_folders("root", names) == {"train": "train", "test": "test"}


def test_folders_of_any_depth():
    names = images("a/" * 2000 + "b")
    assert split_folders("root", names) == {}
    with pytest.raises(DataError, match="which would be mixed"):
        split_folders("root", images("a/" * 2000 + "train", "a/" * 2000 + "test"))


def test_roles_of_words():
    assert role_of("attesting") is role_of("latest") is role_of("valley") is None
    assert role_of("x_Test_2") == ("test", "x 2")


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / name)
    return root


def test_what_was_understood_is_told(tmp_path):
    fill(tmp_path, *images("Training/cat", "Training/dog", "Testing/dog", "extra"), "cover.png")
    (tmp_path / "Training" / "empty").mkdir()
    (tmp_path / "Training" / "__MACOSX").mkdir()
    (tmp_path / "Training" / "cat" / "notes.txt").touch()
    source = ImageFolder(tmp_path, image_size=4, test_fraction=0.5)
    assert source.split("train").classes == ("cat", "dog")
    assert source.split("test").labels.tolist() == [1, 1]
    assert source.num_classes == 2
    assert source.describe() == [
        "train: 4 images of 2 classes (cat 2, dog 2), in Training",
        "test: 2 images of 2 classes (cat 0, dog 2), in Testing",
        "test_fraction=0.5 has no effect: there are split folders",
        "passed over: extra (2 images), which is no split; 1 images beside the splits; "
        "1 files (.txt 1), 1 system folders",
    ]


def test_a_class_that_is_called_train(tmp_path):
    source = ImageFolder(fill(tmp_path, *images("bus", "car", "train")), test_fraction=0.5)
    assert source.split("train").classes == ("bus", "car", "train")
    assert source.describe() == [
        "train: 3 images of 3 classes (bus 1, car 1, train 1)",
        "test: 3 images of 3 classes (bus 1, car 1, train 1)",
        "train is a class here, not a split",
    ]


def test_many_classes_and_unlabelled_images_are_told_in_short(tmp_path):
    fill(tmp_path, *images(*(f"{i:02}" for i in range(21))), "x.png")
    expected = "train: 43 images of 21 classes (2 to 2 each), 1 unlabelled"
    assert ImageFolder(tmp_path).describe() == [expected]


def test_classes_one_folder_further_down(tmp_path):
    source = ImageFolder(fill(tmp_path, *images("pictures/cat", "pictures/dog")))
    assert "all images are in pictures: are its subfolders the classes?" in source.describe()


def test_a_class_whose_name_is_no_text(tmp_path):
    folder = b"caf\xe9".decode("utf-8", "surrogateescape")
    source = ImageFolder(fill(tmp_path, f"{folder}/0.png", "tea/0.png"))
    assert source.split("train").classes == ("caf\\xe9", "tea")
    assert re.fullmatch("[0-9a-f]{64}", source.split("train").digest())
    source.describe()[0].encode()
