"""Every data and views file of the configuration makes what it says."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

import vje_pyro.experiments
from vje_pyro.data import DataSource, Digits, Views

CONF = Path(vje_pyro.experiments.__path__[0]) / "conf"


def read(group, name):
    return OmegaConf.load(CONF / group / f"{name}.yaml")


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_the_promised_files_are_there():
    promised = {"digits", "cifar10", "cifar100", "stl10", "svhn", "fashion_mnist", "imagenet"}
    assert promised | {"folder"} <= set(names("data"))
    assert {"digits", "cifar", "stl10", "imagenet"} <= set(names("views"))


@pytest.mark.parametrize("name", names("data"))
def test_data(name, tmp_path):
    conf = read("data", name)
    if "root" in conf.keys():  # noqa: SIM118 (`in` is false for a missing value)
        conf.root = str(tmp_path)
    if OmegaConf.is_missing(conf, "pretrain"):
        conf.pretrain = "train-*.tar"
    source = instantiate(conf)
    assert isinstance(source, DataSource)
    assert source.name == name
    assert {"pretrain", "train"} <= set(source.splits)
    assert len(source.mean) == len(source.std) == source.channels


def test_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("VJE_DATA", "/somewhere")
    assert read("data", "cifar10").root == "/somewhere"
    monkeypatch.delenv("VJE_DATA")
    assert read("data", "cifar10").root == "data"


@pytest.mark.parametrize("name", names("views"))
def test_views(name):
    views = instantiate(read("views", name), image_size=8, mean=[0.5] * 3, std=[0.25] * 3)
    assert isinstance(views, Views)
    assert views.num_views == 2


def test_digits_views_fit_digits():
    source = Digits()
    made = instantiate(read("views", "digits"), image_size=8, mean=source.mean, std=source.std)(
        source.split("test").images[:4]
    )
    assert made.shape == (2, 4, 1, 8, 8)
