"""What is refused before any work starts."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from vje_pyro.errors import VJEError
from vje_pyro.training import devices
from vje_pyro.training.devices import (
    check_batch,
    check_cores,
    make_fabric,
    peak_memory,
    processes_to_start,
    synchronize_batch_norm,
)


def device(**changes):
    base = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    return OmegaConf.create(base | {"precision": "32-true"} | changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 8, 1), r"8 processes, but loader.batch_size=4 .* multiple of 8"),
        (
            (100, 8, 1),
            r"batch_size=100 cannot be divided equally among 8.*set loader.batch_size=96",
        ),
        ((256, 8, 3), r"accumulate=3 does not divide the 32 images that each of 8 .* of 256"),
        ((256, 1, 0), r"accumulate=0 does not divide the 256"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(arguments, message):
    with pytest.raises(VJEError, match=message):
        check_batch(*arguments)


def test_a_batch_that_can_be_shared_is_not():
    check_batch(256, 8, 4)
    check_batch(8, 8, 1)


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(VJEError, match=r"devices=2, but this machine has 1 GPU.*devices=1"):
        make_fabric(device(accelerator="cuda", devices=2))


@pytest.mark.parametrize("strategy", ["dp", "fsdp"])
def test_only_distributed_data_parallel(strategy):
    with pytest.raises(VJEError, match=f"strategy={strategy} is not supported.*auto.*ddp"):
        make_fabric(device(strategy=strategy, devices=2))


def test_nonsense_is_reported_by_fabric_as_our_error():
    with pytest.raises(VJEError, match=r"num_nodes.*cannot be used"):
        make_fabric(device(num_nodes=0))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None, "x", [0, 1], []])
def test_no_number_of_processes_on_a_cpu(count):
    with pytest.raises(VJEError, match=r"device.devices=.* is not a choice .* from 1 on, or auto"):
        make_fabric(device(devices=count))


@pytest.mark.parametrize(("count", "number"), [(2, 2), ("auto", 1)])
def test_numbers_of_processes_on_a_cpu(count, number):
    assert make_fabric(device(devices=count)).world_size == number
    assert processes_to_start(device(devices=count)) == (number, "cpu")


@pytest.mark.parametrize("chosen", [[0, 3], [0, 0], [-1], ["0"]])
def test_gpus_that_are_not_there(monkeypatch, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(VJEError, match=r"the 2 GPU\(s\) that torch can see .* are \[0, 1\]"):
        make_fabric(device(accelerator="cuda", devices=chosen))


@pytest.mark.parametrize(
    ("chosen", "read"), [("auto", 2), (-1, 2), (2, 2), ([0, 1], [0, 1]), ([1], [1])]
)
def test_ways_to_choose_gpus(monkeypatch, chosen, read):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices._devices(device(devices=chosen).devices, "cuda") == read


def test_processes_that_share_cores(monkeypatch, caplog):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    check_cores(2, "cpu")
    check_cores(100, "cuda")
    assert not caplog.messages
    check_cores(8, "cpu")
    assert "8 processes share 2 CPU core(s)" in caplog.text
    with pytest.raises(VJEError, match=r"device.devices=9, but .* has 2 CPU core.*devices=2"):
        check_cores(9, "cpu")


def test_the_timeout_reaches_the_process_group():
    assert make_fabric(device(devices=2, timeout_s=7)).strategy._timeout.total_seconds() == 7
    assert make_fabric(device(devices=2)).strategy._timeout.total_seconds() == 600


def with_batch_norms():
    torch.manual_seed(0)
    act = pytest.importorskip("timm.layers").BatchNormAct2d(4)  # batch norm and ReLU in one
    norms = (nn.BatchNorm2d(4), act, nn.Flatten(), nn.BatchNorm1d(36, affine=False))
    return nn.Sequential(nn.Conv2d(3, 4, 3), *norms)


def processes_on(device, number):
    return SimpleNamespace(device=torch.device(device), world_size=number)


def test_synchronised_batch_norms_keep_names_weights_and_what_they_compute_alone():
    plain, shared = with_batch_norms(), with_batch_norms()
    weights = dict(shared.named_parameters())
    synchronize_batch_norm(shared, processes_on("cuda", 2))
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in shared.modules()) == 3
    assert all(weights[name] is value for name, value in shared.named_parameters())
    plain(torch.randn(8, 3, 5, 5))
    shared.load_state_dict(plain.state_dict())
    images = torch.randn(8, 3, 5, 5)
    assert torch.equal(plain.eval()(images), shared.eval()(images))


@pytest.mark.parametrize(("device", "number", "warned"), [("cuda", 1, 0), ("cpu", 2, 1)])
def test_batch_norms_stay_as_they_are(caplog, device, number, warned):
    plain = with_batch_norms()
    kinds = [type(module) for module in plain.modules()]
    synchronize_batch_norm(plain, processes_on(device, number))
    assert [type(module) for module in plain.modules()] == kinds
    assert len(caplog.messages) == warned


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_the_peak_rises_by_what_is_held_and_stays():
    device = torch.device("cpu")
    before = peak_memory(device)
    held = torch.ones(int(before + 64) * 2**18)  # more than was ever held
    during = peak_memory(device)
    assert during > before + 32
    del held
    # Linux counts pages in batches, so that its peak is right to some of them only.
    assert peak_memory(device) > during - 1
