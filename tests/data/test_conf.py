"""Every data file of the configuration makes the source that it is named by."""

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vje_pyro.configuration import CONFIG_DIR

NAMES = sorted(path.stem for path in (CONFIG_DIR / "data").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_data(name, tmp_path):
    conf = OmegaConf.load(CONFIG_DIR / "data" / f"{name}.yaml")
    conf.merge_with({key: str(tmp_path) for key in ("root",) if OmegaConf.is_missing(conf, key)})
    if OmegaConf.is_missing(conf, "pretrain"):
        conf.pretrain = "train-*.tar"
    source = instantiate(conf)
    assert source.name == name
    assert {"pretrain", "train"} <= set(source.splits)
    assert len(source.mean) == len(source.std) == source.channels


@pytest.mark.parametrize(("value", "root"), [("/somewhere", "/somewhere"), (None, "data")])
def test_root_comes_from_the_environment(monkeypatch, value, root):
    monkeypatch.delenv("VJE_DATA", raising=False)
    if value:
        monkeypatch.setenv("VJE_DATA", value)
    assert OmegaConf.load(CONFIG_DIR / "data" / "cifar10.yaml").root == root
