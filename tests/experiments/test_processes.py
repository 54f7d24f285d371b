"""``vje train`` in processes of its own: several devices, a kill, and a signal."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commandline import TINY

from vje_pyro.training.checkpoint import load_checkpoint

VJE = Path(sys.executable).with_name("vje")
pytestmark = pytest.mark.skipif(not VJE.exists(), reason="the vje command is not installed")


@pytest.fixture
def start():
    """Starts ``vje train ARGUMENTS``; what is still running after the test is killed."""
    started = []

    def start(*arguments):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [str(VJE), "train", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_two_devices_train_one_run(tmp_path, start):
    run = tmp_path / "run"
    process = start(*TINY, f"run_dir={run}", "device.accelerator=cpu", "device.devices=2")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, out + error
    assert "on 2 × cpu" in out
    assert (run / "checkpoints" / "last.safetensors").is_file()
    with (run / "logs" / "steps.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def until(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def other_process(process):
    """The process that a run on two devices started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent == process.pid and "--multiprocessing-fork" in command:
            return int(path.parent.name)
    raise AssertionError("no other process")


def ended(pid, seconds=10):
    """Whether it is gone, or waits for a parent to take notice, within a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


TWO = (
    *(a for a in TINY if not a.startswith("monitor.")), "monitor=none", "device.devices=2",
    "device.accelerator=cpu", "device.sync_batch_norm=true", "training.epochs=20",
    "training.log_every=1", "training.checkpoint_every_steps=3",
)  # fmt: skip

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds the process in /proc"
)


def killed_run(start, run):
    """A run on two devices, one of whose processes was killed after some steps; what it said."""
    process = start(*TWO, f"run_dir={run}")
    steps = run / "logs" / "steps.csv"
    until(lambda: steps.exists() and steps.read_text().count("\n") > 8, process)
    os.kill(other_process(process), signal.SIGKILL)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2, out + error
    assert "Traceback" not in out + error
    return error


@needs_proc
def test_a_killed_process_ends_the_run_with_a_clear_error_and_a_checkpoint(tmp_path, start):
    error = killed_run(start, tmp_path / "run")
    assert "Process 2 of 2 on this machine was ended by SIGKILL" in error
    assert f"vje train resume={tmp_path / 'run'}" in error
    assert 6 <= load_checkpoint(tmp_path / "run/checkpoints/last.safetensors").step < 100


@pytest.mark.slow  # three runs on two processes
@needs_proc
def test_a_killed_run_on_two_devices_is_resumed_bit_for_bit(tmp_path, start):
    run, whole = tmp_path / "run", tmp_path / "whole"
    killed_run(start, run)
    for arguments in ([f"resume={run}"], [*TWO, f"run_dir={whole}"]):
        process = start(*arguments)
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, out + error
    one, two = (load_checkpoint(r / "checkpoints/last.safetensors") for r in (whole, run))
    assert one.step == two.step == 100
    assert all(torch.equal(one.model[name], two.model[name]) for name in one.model)


@pytest.mark.slow  # starts two processes more
@needs_proc
def test_the_others_end_with_the_first_process(tmp_path, start):
    run = tmp_path / "run"
    process = start(*TWO, f"run_dir={run}", "training.epochs=100000")
    until((run / "logs" / "steps.csv").exists, process)
    other = other_process(process)
    process.kill()
    _, error = process.communicate(timeout=60)  # until the other one has closed its end
    assert "The first process of the run has ended" in error
    assert f"vje train resume={run}" in error
    assert ended(other)


@pytest.mark.slow  # starts torchrun and two processes
def test_torchrun(tmp_path):
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "vje_pyro", "train", *TINY, "device.accelerator=cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    two = ["device.devices=2", f"run_dir={run}"]
    done = subprocess.run(
        [*command, *two], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("on 2 × cpu") == 1
    assert load_checkpoint(run / "checkpoints" / "last.safetensors").step == 10
    done = subprocess.run(
        [*command, f"run_dir={tmp_path / 'other'}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "torchrun started 2 processes, but device.devices=1" in done.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, start):
    run = tmp_path / "run"
    process = start(*TINY, f"run_dir={run}", "training.epochs=100000", "training.log_every=1")
    steps = run / "logs" / "steps.csv"
    deadline = time.monotonic() + 120
    while not (steps.exists() and steps.read_text().count("\n") > 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, out + error
    assert f"vje train resume={run}" in error
    assert "Traceback" not in out + error
    again = start(f"resume={run}", "training.epochs=1")
    _, error = again.communicate(timeout=120)
    assert again.returncode == 2
    assert "would change it" in error
