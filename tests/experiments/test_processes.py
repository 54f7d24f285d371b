"""``vje train`` in processes of its own: several devices, and a signal."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import TINY

VJE = Path(sys.executable).with_name("vje")
pytestmark = pytest.mark.skipif(not VJE.exists(), reason="the vje command is not installed")


def start(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(VJE), "train", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_two_devices_train_one_run(tmp_path):
    run = tmp_path / "run"
    process = start(*TINY, f"run_dir={run}", "device.accelerator=cpu", "device.devices=2")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, out + error
    assert "on 2 × cpu" in out
    assert (run / "checkpoints" / "last.safetensors").is_file()
    with (run / "logs" / "steps.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
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
