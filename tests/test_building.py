"""What a configuration that was read from a file may name; nothing else is imported or called."""

import copy
import importlib
import inspect
import json
import os
import pickle
import pkgutil
import random
import re
import socket
import subprocess
import sys
from pkgutil import resolve_name

import hostile
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import vje_pyro
from vje_pyro.building import build, checked, components, trusted_packages
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.errors import CheckpointError, VJEError

WEB = {"_target_": "vje_pyro.data.WebDataset", "root": "shards", "pretrain": "a.tar::b-*.tar"}


@pytest.fixture(scope="module")
def stored():
    """What run.json of a run on digits holds."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", ["run_dir=runs/it", "image.channels=1", "image.size=8"])
    return OmegaConf.to_container(config, resolve=True)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of the user's on the path; its functions leave a mark."""
    hostile.write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOSTILE_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def targets():
    """``_target_`` of every group's files."""
    for path in sorted(CONFIG_DIR.glob("*/**/*.yaml")):
        nodes = hostile._nodes(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
        yield from (n["_target_"] for n in nodes if isinstance(n, dict) and "_target_" in n)


def test_components_are_those_of_the_groups_and_nothing_else_of_this_package():
    named = set(targets())
    assert len(named) > 40
    assert named <= components()
    assert {name for name in components() - named if not name.startswith("torch.optim.")} == {
        "vje_pyro.data.OneClass"
    }
    for name in components():
        found = resolve_name(name)
        assert inspect.isclass(found), f"{name} is no class"
        if name.startswith("torch."):
            assert issubclass(found, torch.optim.Optimizer)
        else:
            assert found.__module__.startswith(name.rsplit(".", 1)[0]), (
                f"{name} is defined elsewhere"
            )


def test_everything_else_of_this_package_is_refused():
    modules = [
        name
        for package in ("vje_pyro", "vje_pyro.models", "vje_pyro.guides", "vje_pyro.experiments")
        for _, name, _ in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        )
        if not name.endswith("__main__")
    ]
    assert len(modules) > 100
    allowed = {resolve_name(name) for name in components()}
    others = {
        f"{module}.{name}"
        for module in modules
        for name, value in vars(importlib.import_module(module)).items()
        if not (inspect.isclass(value) and value in allowed)
    } | set(modules)
    assert len(others) > 2000
    for name in sorted(others):
        with pytest.raises(CheckpointError, match=r"names|is not the name of a class"):
            checked({"method": {"_target_": name}}, trust=["vje_pyro"])


def test_what_runs_hold_is_plain_data_that_can_be_built(stored):
    assert checked(stored) == stored
    assert json.loads(json.dumps(checked(stored))) == stored
    made = build(checked({"guide": stored["guide"]})["guide"])
    assert made.func is vje_pyro.guides.DiagonalNormal


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("vje_pyro.data.one_class.OneClass", "vje_pyro.data.OneClass"),
        ("vje_pyro.data.webdatasets.WebDataset", "vje_pyro.data.WebDataset"),
        ("vje_pyro.guides.diagonal_normal.DiagonalNormal", "vje_pyro.guides.DiagonalNormal"),
        ("vje_pyro.training.monitors.no_monitor", "vje_pyro.training.monitors.NoMonitor"),
        ("torch.optim.adam.Adam", "torch.optim.Adam"),
    ],
)
def test_components_by_other_names(name, component):
    assert checked({"part": {"_target_": name}})["part"]["_target_"] == component


@pytest.mark.parametrize("seed", range(6))
def test_hostile_configurations_are_refused_before_anything_happens(stored, mine, seed):
    rng = random.Random(seed)
    checked({"a": {"_target_": "torch.optim.adam.Adam"}})  # what is imported once is, from here on
    watch = hostile.Watch(packages=frozenset({"mine"}))
    for number in range(200):
        config = hostile.hostile(stored, rng, plain=False)
        trust = rng.choice(((), ("mine",), ("mine", "vje_pyro"), ("minimal", "mine.sub")))
        with watch.watching():
            try:
                checked(config, trust)
                outcome = "accepted"
            except CheckpointError as error:
                outcome = str(error)
        assert re.search(r"refused: \S|names '", outcome), f"seed {seed}, {number}: {config}"
    assert watch.seen == {"executed": [], "written": [], "network": []}
    assert not (mine / "mark").exists()


def test_the_watch_sees_what_it_must(tmp_path):
    watch = hostile.Watch(folders=(str(tmp_path / "allowed"),))
    (tmp_path / "data").write_bytes(pickle.dumps(OneTime()))
    with watch.watching():
        os.system("true")
        subprocess.run(["true"], check=True)
        (tmp_path / "allowed").write_text("")
        (tmp_path / "written").write_text("")
        (tmp_path / "folder").mkdir()
        pickle.loads((tmp_path / "data").read_bytes())
        importlib.import_module("this")
        with pytest.raises(ImportError):
            import nowhere_to_be_found  # noqa: F401
        with pytest.raises(ConnectionRefusedError), socket.socket() as unused:
            unused.connect(("127.0.0.1", 1))
    executed = [line.split()[0] for line in watch.seen["executed"]]
    assert {"os.system", "subprocess.Popen", "pickle.find_class", "import", "exec"} <= set(executed)
    written = " ".join(watch.seen["written"])
    assert (len(watch.seen["written"]), written.count("written"), written.count("folder")) == (
        2,
        1,
        1,
    )
    assert len(watch.seen["network"]) == 1


class OneTime:
    """Something that a pickle has to look up."""


def test_trusted_classes_are_those_that_the_package_defines(mine):
    config = {"encoder": {"_target_": "mine.Own", "size": 3}}
    with pytest.raises(CheckpointError, match=r"--trust mine .*VJE_TRUST=mine .*trust=\('mine',\)"):
        checked(config)
    assert "mine" not in sys.modules
    assert checked(config, ["mine"]) == config
    assert checked({"a": {"_target_": "mine.sub.Own"}}, "mine")["a"]["_target_"] == "mine.sub.Own"
    for name in ("mine.function", "mine.os", "mine.RunLogs", "mine.Own.__base__", "mine.instance"):
        with pytest.raises(CheckpointError, match="is not a class that mine itself defines"):
            checked({"encoder": {"_target_": name}}, ["mine"])
    with pytest.raises(CheckpointError, match=r"'mine.Absent' .*cannot be found"):
        checked({"encoder": {"_target_": "mine.Absent"}}, ["mine"])


def test_a_run_cannot_bring_its_own_trust(mine):
    config = {"trust": ["mine"], "encoder": {"_target_": "mine.Own", "trust": ["mine"]}}
    with pytest.raises(CheckpointError, match=r"trusted packages \(\)"):
        checked(config)
    assert "mine" not in sys.modules


def test_trust_accumulates_from_all_who_may_give_it(monkeypatch):
    monkeypatch.setenv("VJE_TRUST", "yours, theirs,,")
    monkeypatch.setattr("vje_pyro.building._own_line", lambda: ("ours",))
    assert trusted_packages(["mine"]) == ("mine", "yours", "theirs", "ours")
    assert trusted_packages("mine")[0] == "mine"
    for wrong in ("a b", "a..b", "a/b", "", 3):
        with pytest.raises(VJEError, match="is not the name of a package"):
            trusted_packages([wrong])


def test_nothing_is_fetched_for_a_stored_configuration():
    cifar = {"_target_": "vje_pyro.data.CIFAR10", "root": "data", "download": True}
    timm = {"_target_": "vje_pyro.encoders.TimmEncoder", "name": "x", "pretrained": 1}
    timm["checkpoint_path"] = "evil.pth"
    config = checked({"data": {"_target_": "vje_pyro.data.OneClass", "source": cifar}, "e": timm})
    assert config["data"]["source"]["download"] is False
    assert config["e"] == {**timm, "pretrained": False, "checkpoint_path": ""}
    assert checked({"data": cifar}, replaced=["data.download"])["data"]["download"] is None
    assert checked({"download": True}) == {"download": True}  # of no component


@pytest.mark.parametrize("key", ["root", "pretrain", "train", "val", "test", "index"])
@pytest.mark.parametrize("url", hostile.URLS)
def test_urls_come_from_the_command_line_only(key, url):
    config = {"data": {**WEB, key: url}}
    with pytest.raises(CheckpointError, match=rf"data.{key} is .*a URL.*--data-root .*data.root="):
        checked(config)
    assert checked(config, replaced=[f"data.{key}"]) == {"data": {**WEB, key: None}}


@pytest.mark.parametrize("path", ["/data/a", "C:\\data", "D:/data", "a/b.tar::c-{0..3}.tar", "~/é"])
def test_paths_are_no_urls(path):
    config = {"data": {**WEB, "root": path}}
    assert checked(config) == config


def test_the_walk_leaves_the_file_s_content_as_it_is(stored):
    before = copy.deepcopy(stored)
    stored["data"]["download"] = before["data"]["download"] = True
    checked(stored, replaced=["seed"])
    assert stored == before


@pytest.mark.parametrize("config", [None, [], "x", 3, [["method", {}]]])
def test_a_configuration_is_a_group(config):
    with pytest.raises(CheckpointError, match="not a group of keys"):
        checked(config)


def test_keys_are_shown_as_one_line_of_plain_text():
    config = {"method": {"a\n\x1b[31mred": {"_target_": "os.system"}, "b" * 5000: 1}}
    with pytest.raises(CheckpointError) as refusal:
        checked(config)
    assert "a??[31mred" in str(refusal.value)
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isprintable()
