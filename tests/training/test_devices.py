"""What is refused before any work starts."""

import os
import socket

import pytest
import torch
from omegaconf import OmegaConf

from vje_pyro.errors import VJEError
from vje_pyro.training import devices
from vje_pyro.training.devices import check_batch, check_cores, make_fabric
from vje_pyro.training.processes import LostProcessError, processes_to_start, run_together


def device(**changes):
    base = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    return OmegaConf.create(base | {"precision": "32-true"} | changes)


@pytest.fixture
def no_launcher(monkeypatch):
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 8, 1), r"8 processes, but loader.batch_size=4 .* multiple of 8"),
        ((100, 8, 1), r"batch_size=100 cannot be shared equally among 8.*set loader.batch_size=96"),
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
    with pytest.raises(VJEError, match=r"device.devices=.* is no choice .* from 1 on, or auto"):
        make_fabric(device(devices=count))


@pytest.mark.parametrize(("count", "number"), [(2, 2), ("auto", 1)])
def test_numbers_of_processes_on_a_cpu(count, number):
    assert make_fabric(device(devices=count)).world_size == number


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


@pytest.mark.usefixtures("no_launcher")
def test_processes_are_started_unless_somebody_else_does(monkeypatch):
    assert processes_to_start(make_fabric(device())) == 1
    assert processes_to_start(make_fabric(device(devices=3))) == 3
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert processes_to_start(make_fabric(device(devices=3))) == 1


def test_the_timeout_reaches_the_process_group():
    assert make_fabric(device(devices=2, timeout_s=7)).strategy._timeout.total_seconds() == 7
    assert make_fabric(device(devices=2)).strategy._timeout.total_seconds() == 600


@pytest.mark.usefixtures("no_launcher")
def test_a_port_in_use_is_named(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(VJEError, match=f"MASTER_PORT={port}.*free port"):
            run_together(2, 1, tmp_path, print)
    monkeypatch.setenv("MASTER_PORT", "x")
    with pytest.raises(VJEError, match="MASTER_PORT=x"):
        run_together(2, 1, tmp_path, print)


@pytest.mark.usefixtures("no_launcher")
def test_several_machines_must_know_where_to_meet(tmp_path):
    with pytest.raises(VJEError, match=r"num_nodes=2.*MASTER_ADDR, MASTER_PORT and NODE_RANK"):
        run_together(2, 2, tmp_path, print)
    assert "LOCAL_RANK" not in os.environ


def test_a_lost_connection_says_how_to_go_on(tmp_path):
    def lose():
        raise RuntimeError("[/somewhere/gloo/transport/tcp/pair.cc:1] Connection closed by peer")

    with pytest.raises(LostProcessError, match="no checkpoint yet"):
        run_together(1, 1, tmp_path, lose)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.safetensors").touch()
    with pytest.raises(LostProcessError, match=f"vje train resume={tmp_path}"):
        run_together(1, 1, tmp_path, lose)


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_together(1, 1, tmp_path, lambda: 1 / 0)
