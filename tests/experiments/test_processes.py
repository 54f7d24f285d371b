"""``vje train`` in processes of its own: several devices, a kill, and a signal."""

import csv
import json
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
    running = []

    def start(*arguments):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [str(VJE), "train", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def started(process):
    """The processes of a run on two devices, which ``process`` started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent == process.pid and "--multiprocessing-fork" in command:
            found.append(int(path.parent.name))
    return sorted(found)


def finished(process):
    """What it said, after it has ended well."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, out + error
    return out, error


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
    "device.accelerator=cpu", "training.epochs=20", "training.log_every=1",
    "training.checkpoint_every_steps=3",
)  # fmt: skip
ENDLESS = "training.epochs=100000"

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds the process in /proc"
)


def begun(start, run, *more):
    """A run on two devices after some steps."""
    process = start(*TWO, f"run_dir={run}", *more)
    steps = run / "logs" / "steps.csv"
    until(lambda: steps.exists() and steps.read_text().count("\n") > 8, process)
    return process


@pytest.mark.slow
@needs_proc
def test_a_killed_process_is_started_again(tmp_path, start):
    run = tmp_path / "run"
    process = begun(start, run)
    os.kill(started(process)[1], signal.SIGKILL)
    out, error = finished(process)
    assert "Traceback" not in out + error
    assert out.count("on 2 × cpu") == 2
    assert "was ended by SIGKILL; all others end with it. Starting again" in out
    with (run / "logs" / "steps.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 101))
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    record = json.loads((run / "run.json").read_text())
    (again,) = record["resumed"]
    assert again["step"] >= 6


@pytest.mark.slow  # five starts of two processes
@needs_proc
def test_a_killed_run_on_two_devices_ends_bit_for_bit_as_one_left_alone(tmp_path, start):
    again, whole, given_up = (tmp_path / name for name in ("again", "whole", "given_up"))
    process = begun(start, again)
    os.kill(started(process)[0], signal.SIGKILL)
    finished(process)
    finished(start(*TWO, f"run_dir={whole}"))
    process = begun(start, given_up, "device.max_restarts=0")
    os.kill(started(process)[1], signal.SIGKILL)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2, out + error
    assert "error: Process 2 of 2 on this machine was ended by SIGKILL" in error
    assert f"vje train resume={given_up}" in error
    finished(start(f"resume={given_up}"))
    one, *others = (
        load_checkpoint(run / "checkpoints/last.safetensors") for run in (whole, again, given_up)
    )
    for two in others:
        assert one.step == two.step == 100
        assert all(torch.equal(one.model[name], two.model[name]) for name in one.model)


@pytest.mark.slow  # starts two processes more
@needs_proc
@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (lambda process: process.kill(), -9, "The process that started the run has ended."),
        (lambda process: os.killpg(process.pid, signal.SIGINT), 130, "Stopped by SIGINT"),
        (lambda process: process.terminate(), 143, "Stopped by SIGTERM"),
    ],
)
def test_the_others_end_with_the_process_that_started_them(tmp_path, start, end, code, words):
    run = tmp_path / "run"
    process = begun(start, run, ENDLESS)
    others = started(process)
    end(process)
    _, error = process.communicate(timeout=60)  # until the others have closed their ends
    assert process.returncode == code
    assert words in error
    assert f"vje train resume={run}" in error
    assert "Traceback" not in error
    assert all(map(ended, others))


@pytest.mark.slow  # starts torchrun, and two processes twice
@needs_proc
def test_torchrun_starts_again(tmp_path, start):
    run, log = tmp_path / "run", tmp_path / "log"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["-m", "vje_pyro", "train", *TWO, f"run_dir={run}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *torchrun, "--max_restarts=1", *arguments],
            stdout=file, stderr=file, env=environment,
        )  # fmt: skip
        steps = run / "logs" / "steps.csv"
        until(lambda: steps.exists() and steps.read_text().count("\n") > 8, process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children.split()[-1]), signal.SIGKILL)
        assert process.wait(300) == 0, log.read_text()
    assert log.read_text().count("on 2 × cpu") == 2
    assert "Resuming at step" in log.read_text()
    assert load_checkpoint(run / "checkpoints" / "last.safetensors").step == 100
    done = subprocess.run(
        [sys.executable, *torchrun, *arguments[:-1], "device.devices=1"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "torchrun started 2 processes, but device.devices=1" in done.stderr


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, start):
    run = tmp_path / "run"
    process = start(*TINY, f"run_dir={run}", "training.epochs=100000", "training.log_every=1")
    steps = run / "logs" / "steps.csv"
    until(lambda: steps.exists() and steps.read_text().count("\n") > 5, process)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, out + error
    assert f"vje train resume={run}" in error
    assert "Traceback" not in out + error
    again = start(f"resume={run}", "training.epochs=1")
    _, error = again.communicate(timeout=120)
    assert again.returncode == 2
    assert "would change it" in error
