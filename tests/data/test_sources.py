"""Every source on tiny files in the format of the real ones, which the test writes itself."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from vje_pyro.data import CIFAR10, CIFAR100, STL10, SVHN, DataSource, Digits, FashionMNIST
from vje_pyro.errors import DataError

N = 20
"""Images in each file."""


def some(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, content):
    """Write a file; returns its MD5, as torchvision's lists want it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()


def expect(source, split, images, labels, classes):
    made = source.split(split)
    assert np.array_equal(made.images.numpy(), images)
    assert made.labels.tolist() == list(labels)
    assert len(made.classes) == classes == source.num_classes
    assert made.images.shape[1:] == (source.channels, source.image_size, source.image_size)
    assert len(source.mean) == len(source.std) == source.channels


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    rows = {"data_batch_1": 0, "data_batch_2": 1, "test_batch": 2}
    md5 = {}
    for name, seed in rows.items():
        batch = {"data": some(N, 3072, seed=seed), "labels": [i % 10 for i in range(N)]}
        md5[name] = write(tmp_path / "cifar-10-batches-py" / name, pickle.dumps(batch, protocol=2))
    meta = pickle.dumps({"label_names": [f"c{i}" for i in range(10)]}, protocol=2)
    meta_md5 = write(tmp_path / "cifar-10-batches-py" / "batches.meta", meta)
    real = datasets.CIFAR10
    monkeypatch.setattr(real, "train_list", [[n, md5[n]] for n in list(rows)[:2]])
    monkeypatch.setattr(real, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(real, "meta", real.meta | {"md5": meta_md5})
    return tmp_path


def test_cifar10(cifar10):
    source = CIFAR10(cifar10)
    train = np.concatenate([some(N, 3072, seed=s).reshape(N, 3, 32, 32) for s in (0, 1)])
    expect(source, "train", train, [i % 10 for i in range(N)] * 2, 10)
    expect(source, "test", some(N, 3, 32, 32, seed=2), [i % 10 for i in range(N)], 10)
    assert source.split("pretrain") is source.split("train")


def test_resize_and_limits(cifar10):
    whole = CIFAR10(cifar10).split("train")
    source = CIFAR10(cifar10, image_size=16, train_limit=10, test_limit=1000)
    small = source.split("train")
    assert small.images.shape == (10, 3, 16, 16)
    assert small.labels.bincount().tolist() == [1] * 10
    boxes = whole.images.float().reshape(-1, 3, 16, 2, 16, 2).mean((3, 5)).round()
    match = (boxes.to(torch.uint8)[:, None] == small.images[None]).flatten(2).all(2)
    assert match.any(0).all()
    assert len(source.split("test")) == N
    assert CIFAR10(cifar10, train_limit=10).split("train").digest() != small.digest()


def test_damaged_file(cifar10):
    path = cifar10 / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"CIFAR-10 in .*data\.download=true.*data\.root"):
        CIFAR10(cifar10).split("train")


def test_cifar100(tmp_path, monkeypatch):
    md5 = {}
    for name, seed in {"train": 0, "test": 1}.items():
        batch = {"data": some(N, 3072, seed=seed), "fine_labels": list(range(N))}
        md5[name] = write(tmp_path / "cifar-100-python" / name, pickle.dumps(batch, protocol=2))
    meta = pickle.dumps({"fine_label_names": [f"c{i}" for i in range(100)]}, protocol=2)
    meta_md5 = write(tmp_path / "cifar-100-python" / "meta", meta)
    real = datasets.CIFAR100
    monkeypatch.setattr(real, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(real, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(real, "meta", real.meta | {"md5": meta_md5})
    assert CIFAR100(tmp_path).num_classes == 100
    expect(CIFAR100(tmp_path), "train", some(N, 3, 32, 32), range(N), 100)
    expect(CIFAR100(tmp_path), "test", some(N, 3, 32, 32, seed=1), range(N), 100)


def test_stl10(tmp_path, monkeypatch):
    base = tmp_path / "stl10_binary"
    md5 = {"class_names.txt": write(base / "class_names.txt", "\n".join("abcdefghij").encode())}
    images = {name: some(n, 3, 96, 96) for name, n in (("train", 4), ("test", 3), ("unlabeled", 5))}
    for name, pixels in images.items():
        # the file runs down the columns first
        md5[f"{name}_X.bin"] = write(base / f"{name}_X.bin", pixels.transpose(0, 1, 3, 2).tobytes())
        if name != "unlabeled":
            labels = np.arange(1, len(pixels) + 1, dtype=np.uint8)  # from 1
            md5[f"{name}_y.bin"] = write(base / f"{name}_y.bin", labels.tobytes())
    real = datasets.STL10
    train = ["train_X.bin", "train_y.bin", "unlabeled_X.bin"]
    monkeypatch.setattr(real, "train_list", [[n, md5[n]] for n in train])
    monkeypatch.setattr(real, "test_list", [[n, md5[n]] for n in ("test_X.bin", "test_y.bin")])
    source = STL10(tmp_path)
    expect(source, "train", images["train"], range(4), 10)
    expect(source, "test", images["test"], range(3), 10)
    expect(source, "pretrain", images["unlabeled"], [-1] * 5, 10)
    assert len(STL10(tmp_path, train_limit=2).split("pretrain")) == 2


def test_svhn(tmp_path, monkeypatch):
    md5 = {}
    for name, seed in {"train": 0, "test": 1}.items():
        digits = (np.arange(N) % 10).astype(np.uint8)
        digits[digits == 0] = 10  # the file calls a zero ten
        path = tmp_path / f"{name}_32x32.mat"
        savemat(
            path, {"X": some(N, 3, 32, 32, seed=seed).transpose(2, 3, 1, 0), "y": digits[:, None]}
        )
        md5[name] = hashlib.md5(path.read_bytes()).hexdigest()
    lists = {n: ["", f"{n}_32x32.mat", md5[n]] for n in md5}
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    assert SVHN(tmp_path).num_classes == 10
    expect(SVHN(tmp_path), "train", some(N, 3, 32, 32), np.arange(N) % 10, 10)
    expect(SVHN(tmp_path), "test", some(N, 3, 32, 32, seed=1), np.arange(N) % 10, 10)


def test_fashion_mnist(tmp_path, monkeypatch):
    """From the gzip files, unpacked by torchvision as after a download."""
    raw = tmp_path / "FashionMNIST" / "raw"
    md5 = {}
    for seed, prefix in enumerate(("train", "t10k")):
        images = struct.pack(">IIII", 0x0803, N, 28, 28) + some(N, 28, 28, seed=seed).tobytes()
        labels = struct.pack(">II", 0x0801, N) + (np.arange(N) % 10).astype(np.uint8).tobytes()
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            file = f"{prefix}-{name}-ubyte.gz"
            md5[file] = write(raw / file, gzip.compress(content))
    monkeypatch.setattr(datasets.FashionMNIST, "resources", list(md5.items()))
    with pytest.raises(DataError, match=r"data\.download=true"):
        FashionMNIST(tmp_path).split("train")
    source = FashionMNIST(tmp_path, download=True)
    expect(source, "train", some(N, 1, 28, 28), np.arange(N) % 10, 10)
    expect(FashionMNIST(tmp_path), "test", some(N, 1, 28, 28, seed=1), np.arange(N) % 10, 10)


def test_digits():
    source = Digits()
    train, test = source.split("train"), source.split("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (1, 8, 8)
    assert train.images.unique().tolist() == [round(255 * v / 16) for v in range(17)]
    share = test.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    assert (share - 0.2).abs().max() < 0.01
    assert source.split("pretrain") is train
    pixels = train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(source.mean[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(source.std[0], abs=1e-3)
    assert Digits(image_size=16, test_limit=50).split("test").images.shape == (50, 1, 16, 16)


def test_pickles_beside_fashion_mnist_are_not_read(tmp_path, monkeypatch):
    for name in ("training.pt", "test.pt"):
        write(tmp_path / "FashionMNIST" / "processed" / name, b"a pickle")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match="cannot read the train split of Fashion-MNIST"):
        FashionMNIST(tmp_path).split("train")


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100, STL10, SVHN, FashionMNIST])
def test_absent_root(source, tmp_path):
    absent = source(tmp_path / "absent")
    assert isinstance(absent, DataSource)
    for split in ("train", "test"):
        with pytest.raises(DataError, match=r"absent: set data\.download=true.* or data\.root="):
            absent.split(split)


def test_failed_download_says_so(tmp_path, monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", offline)
    with pytest.raises(DataError, match=r"the download failed.*no network"):
        CIFAR10(tmp_path, download=True).split("train")


REAL = Path(os.environ.get("VJE_DATA", "data"))


@pytest.mark.skipif(not (REAL / "cifar-10-batches-py").is_dir(), reason="no CIFAR-10 in VJE_DATA")
def test_cifar10_is_the_official_one():
    """SHA-256 of the arrays in the official test_batch (MD5 40351d58…)."""
    split = CIFAR10(REAL).split("test")
    assert split.labels.bincount().tolist() == [1000] * 10
    pixels = hashlib.sha256(split.images.numpy().tobytes()).hexdigest()
    assert pixels == "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56"


def test_validation_is_what_the_limit_leaves_of_the_training_split():
    whole, source = Digits().split("train"), Digits(train_limit=1100)
    train, validation = source.split("train"), source.split("validation")
    assert len(train) == 1100
    assert len(validation) == len(whole) - 1100
    both = torch.cat([source.positions("train"), source.positions("validation")])
    assert sorted(both.tolist()) == list(range(len(whole)))
    assert torch.equal(whole.images[source.positions("validation")], validation.images)
    counts = validation.labels.bincount()
    assert counts.max() - counts.min() <= 4


def test_the_test_limit_cuts_validation_too():
    cut = Digits(train_limit=1000, test_limit=50).split("validation")
    assert torch.equal(cut.images, Digits(train_limit=1000).split("validation").images[:50])


@pytest.mark.parametrize(
    ("limit", "split", "message"),
    [
        (None, "validation", "because all training images are trained on"),
        (1437, "validation", "takes all 1437 training"),
        (None, "valid", "digits has no split 'valid'; choose from pretrain, test"),
    ],
)
def test_there_is_no_such_split(limit, split, message):
    with pytest.raises(DataError, match=message):
        Digits(train_limit=limit).split(split)
