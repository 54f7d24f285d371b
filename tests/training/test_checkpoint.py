"""Checkpoints: round trip, atomic writing, refusal of everything else."""

import errno
import json
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vje_pyro.errors import CheckpointError
from vje_pyro.training.checkpoint import (
    Checkpoint,
    find_nonfinite,
    load_checkpoint,
    load_weights,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from vje_pyro.training.optim import LARS, param_groups

OPTIMISERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "adamw-fused": lambda groups: torch.optim.AdamW(groups, lr=0.1, fused=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "lars": lambda groups: LARS(groups, lr=0.1),
}


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def convolutions():
    """In the layout that is fast, in which a fused optimiser wants its state too."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    return net.to(memory_format=torch.channels_last)


def batch(net, step):
    shape = (8, 3, 3, 3) if isinstance(net[0], nn.Conv2d) else (8, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


def take_steps(net, optimizer, *steps):
    for step in steps:
        optimizer.zero_grad()
        net(batch(net, step)).pow(2).mean().backward()
        optimizer.step()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint = Checkpoint(
        step=7, epoch=1, model=module().state_dict(), config={"a": {"b": [1, None]}}, extra={"x": 1}
    )
    save_checkpoint(checkpoint, path)
    return path


def test_round_trip(saved, toy):
    found = load_checkpoint(saved)
    assert (found.step, found.epoch, found.config, found.extra) == (
        7,
        1,
        {"a": {"b": [1, None]}},
        {"x": 1},
    )
    assert toy.same_state(found.model, module().state_dict())


def test_header_is_readable_json(saved):
    with safe_open(saved, "pt") as file:
        header = file.metadata()
        names = set(file.keys())
    assert (header["schema"], header["version"]) == ("vje-pyro-checkpoint", "1")
    assert json.loads(header["meta"])["step"] == 7
    assert "model.0.weight" in names


@pytest.mark.parametrize("make", [module, convolutions])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimizer_state_goes_on_bit_for_bit(tmp_path, name, make, toy):
    whole = make()
    take_steps(whole, OPTIMISERS[name](param_groups(whole)), 0, 1, 2)

    first = make()
    optimizer = OPTIMISERS[name](param_groups(first))
    take_steps(first, optimizer, 0, 1)
    path = tmp_path / "a.safetensors"
    state = pack_optimizer(optimizer, first)
    save_checkpoint(Checkpoint(2, 0, first.state_dict(), state), path)

    found, second = load_checkpoint(path), make()
    optimizer = OPTIMISERS[name](param_groups(second))
    load_weights(path, second)
    unpack_optimizer(optimizer, second, found.optimizer)
    take_steps(second, optimizer, 2)
    assert toy.same_state(whole.state_dict(), second.state_dict())


def test_optimizer_keeps_its_own_hyperparameters():
    net = module()
    optimizer = torch.optim.SGD(param_groups(net), lr=0.1, momentum=0.9)
    take_steps(net, optimizer, 0)
    other = torch.optim.SGD(param_groups(net), lr=0.01, momentum=0.9)
    unpack_optimizer(other, net, pack_optimizer(optimizer, net))
    assert other.param_groups[0]["lr"] == 0.01
    assert other.state[net[0].weight]["momentum_buffer"].abs().sum() > 0


def test_optimizer_state_of_other_parameters_is_refused():
    net = module()
    optimizer = torch.optim.SGD(param_groups(net), lr=0.1, momentum=0.9)
    take_steps(net, optimizer, 0)
    state = pack_optimizer(optimizer, net) | {"9.weight": {}}
    with pytest.raises(CheckpointError, match=r"9\.weight"):
        unpack_optimizer(optimizer, net, state)


def test_scalars_and_shared_tensors_survive(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"a": weight, "b": weight, "c": weight.T, "d": torch.tensor(3), "e": torch.empty(0)}
    path = tmp_path / "a.safetensors"
    save_checkpoint(Checkpoint(1, 0, state, {"a": {"step": 4, "none": None}}), path)
    found = load_checkpoint(path)
    assert found.optimizer == {"a": {"step": 4, "none": None}}
    for name, value in state.items():
        assert torch.equal(found.model[name], value)


def test_state_that_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(TypeError, match="x is a int"):
        save_checkpoint(Checkpoint(1, 0, {"x": 3}), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_load_weights_of_a_run_directory(saved, tmp_path, toy):
    (tmp_path / "checkpoints").mkdir()
    os.replace(saved, tmp_path / "checkpoints" / "last.safetensors")
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    load_weights(tmp_path, net)
    assert toy.same_state(net.state_dict(), module().state_dict())


def test_load_weights_names_every_misfit(saved):
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Identity(), nn.Linear(5, 2))
    before = net[0].weight.clone()
    with pytest.raises(CheckpointError) as caught:
        load_weights(saved, net)
    message = str(caught.value)
    assert "3.weight: missing in the checkpoint" in message
    assert "2.weight: unknown to the model" in message
    assert "0.weight: shape (4, 3) in the checkpoint, (5, 3) in the model" in message
    assert torch.equal(net[0].weight, before)


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"No checkpoint at .*nowhere"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncated(saved, keep):
    data = saved.read_bytes()
    keep = int(keep * len(data)) if isinstance(keep, float) else keep
    saved.write_bytes(data[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(saved)


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"model.x": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="schema None, expected 'vje-pyro-checkpoint'"):
        load_checkpoint(path)
    save_file({"x": torch.ones(1)}, path, {"schema": "vje-pyro-checkpoint", "version": "2"})
    with pytest.raises(CheckpointError, match="version '2'"):
        load_checkpoint(path)


@pytest.mark.parametrize("meta", ["", "{", "[]", '{"step": 1}', "null"])
def test_damaged_header(tmp_path, meta):
    path = tmp_path / "a.safetensors"
    header = {"schema": "vje-pyro-checkpoint", "version": "1", "meta": meta}
    save_file({"model.x": torch.ones(1)}, path, header)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def rewritten(path, tensors=None, **header):
    """The file with other tensors or entries of the header, and the rest as it was."""
    with safe_open(path, "pt") as file:
        old = file.metadata()
        own = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {k: v for k, v in {**old, **header}.items() if v is not None}
    save_file(own if tensors is None else tensors(own), path, kept)


def swapped(tensors):
    one, two = "model.1.weight", "model.1.bias"
    return tensors | {one: tensors[two], two: tensors[one]}


TENSORS = {
    "two swapped": swapped,
    "one renamed": lambda t: {n.replace("2.bias", "2.bios"): v for n, v in t.items()},
    "one missing": lambda t: {n: v for n, v in t.items() if n != "model.2.bias"},
    "one more": lambda t: t | {"model.more": torch.ones(1)},
    "a dtype relabelled": lambda t: t | {"model.2.bias": t["model.2.bias"].view(torch.int32)},
    "a shape": lambda t: t | {"model.2.weight": t["model.2.weight"].reshape(4, 2)},
    "a sign": lambda t: t | {"model.2.bias": -t["model.2.bias"]},
    "not a number": lambda t: t | {"model.2.bias": t["model.2.bias"] * float("nan")},
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_not_those_written_are_refused(saved, name):
    rewritten(saved, TENSORS[name])
    for attempt in (load_checkpoint, lambda path: load_weights(path, module())):
        with pytest.raises(CheckpointError, match=r"a\.safetensors is not a readable checkpoint"):
            attempt(saved)


@pytest.mark.parametrize(
    "change",
    [("meta", '"step": 7', '"step": 8'), ("digests", "0", "1"), ("digest", "", "0"),
     ("digest", None, None), ("digests", None, None)],
    ids=lambda change: f"{change[0]} {change[2]}",
)  # fmt: skip
def test_a_header_that_is_not_the_one_written_is_refused(saved, change):
    name, before, after = change
    with safe_open(saved, "pt") as file:
        value = file.metadata()[name]
    rewritten(saved, **{name: None if before is None else value.replace(before, after, 1)})
    with pytest.raises(CheckpointError, match=r"a\.safetensors is not a readable checkpoint"):
        load_checkpoint(saved)


def test_every_flipped_bit_is_noticed(saved, toy):
    """Where the format has room for it (blanks, escapes) it must not change what is loaded."""
    whole, refused = saved.read_bytes(), 0
    expected = load_checkpoint(saved)
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        saved.write_bytes(bytes(data))
        try:
            found = load_checkpoint(saved)
        except CheckpointError:
            refused += 1
            continue
        assert toy.same_state(found.model, expected.model)
        assert (found.step, found.config) == (expected.step, expected.config)
    assert refused > len(whole) // 7 * 0.98


@pytest.mark.parametrize(
    ("before", "after"),
    [('"step": 7', '"step": -7'), ('"step": 7', '"step": 7.5'), ('"step": 7', '"step": true'),
     ('"epoch": 1', '"epoch": "1"'), ('"config"', '"konfig"'),
     ('"extra": {', '"extra": {"x": 2, ')],
)  # fmt: skip
def test_old_checkpoints_load_with_a_warning_and_their_header_is_checked(
    saved, caplog, before, after
):
    rewritten(saved, digest=None, digests=None)
    assert load_checkpoint(saved).step == 7
    assert f"{saved} was written without a digest" in caplog.text
    with safe_open(saved, "pt") as file:
        meta = file.metadata()["meta"]
    assert before in meta
    rewritten(saved, meta=meta.replace(before, after))
    with pytest.raises(CheckpointError, match=r"a\.safetensors is not a readable checkpoint"):
        load_checkpoint(saved)


class Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("container", ["pickle", "torch", "torch-legacy"])
def test_malicious_pickle_is_not_executed(tmp_path, container):
    path, target = tmp_path / "last.safetensors", tmp_path / "executed"
    if container == "pickle":
        path.write_bytes(pickle.dumps(Malice(target)))
    else:
        zipped = container == "torch"
        torch.save({"model": Malice(target)}, path, _use_new_zipfile_serialization=zipped)
    for attempt in (load_checkpoint, lambda p: load_weights(p, module())):
        with pytest.raises(CheckpointError, match="never opened"):
            attempt(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Malice(target)))  # the weapon was loaded
    assert target.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file(saved, monkeypatch, call):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched"):
        save_checkpoint(Checkpoint(8, 1, module().state_dict()), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_missing_directory(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot write"):
        save_checkpoint(Checkpoint(1, 0, {}), tmp_path / "no" / "a.safetensors")


def test_find_nonfinite():
    state = {"n": torch.tensor(3), "a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}
    assert find_nonfinite(state) == "b"
    assert find_nonfinite({"n": torch.tensor(3), "a": torch.ones(2)}) is None
    assert find_nonfinite({}) is None
