"""Runs that are spread over processes, or that another process has."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vje_pyro.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("processes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(directory)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((directory / "report.json").read_text())
    return directory, report


def last(directory, name):
    return load_checkpoint(directory / name / "checkpoints" / "last.safetensors")


def rows(directory, name, log):
    with (directory / name / "logs" / log).open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("time", "images_per_second", "peak_memory")}
            for row in csv.DictReader(file)
        ]


def test_running_run_is_not_resumed(scene):
    _, report = scene
    assert report["in_use"].startswith("CheckpointError")
    assert "still running" in report["in_use"]


def test_two_processes_train_as_one(scene):
    directory, report = scene
    assert (report["one"], report["two"]) == (0, 0)
    one, two = last(directory, "one"), last(directory, "two")
    assert one.step == two.step == 12
    for name, value in one.model.items():
        torch.testing.assert_close(two.model[name], value, rtol=1e-4, atol=1e-6)


def test_two_processes_log_global_means(scene):
    directory, _ = scene
    one, two = rows(directory, "one", "steps.csv"), rows(directory, "two", "steps.csv")
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "near", "spread", "angle", "grad_norm"):
            assert float(b[name]) == pytest.approx(float(a[name]), rel=1e-3)


def taken(directory, name):
    """Images of each step, over all processes, and the number of processes that took them."""
    steps = {}
    for path in directory.glob(f"{name}.*.json"):
        for step, indices in map(json.loads, path.read_text().splitlines()):
            images, number = steps.setdefault(step, (set(), []))
            assert not images & set(indices)
            images.update(indices)
            number.append(int(path.suffixes[0][1:]))
    return {step: (images, set(number)) for step, (images, number) in steps.items()}


def test_a_run_goes_on_on_another_number_of_processes(scene):
    directory, report = scene
    assert report["moved"] == [0, 0, 0, 0]
    moved, unmoved = taken(directory, "moved"), taken(directory, "unmoved")
    assert sorted(moved) == sorted(unmoved) == list(range(12))
    assert [moved[step][1] for step in range(12)] == [{2}] * 5 + [{1}] * 2 + [{4}] * 5
    assert [moved[step][0] for step in range(12)] == [unmoved[step][0] for step in range(12)]


def test_a_moved_run_ends_as_one_that_stayed(scene):
    directory, _ = scene
    moved, unmoved = last(directory, "moved"), last(directory, "unmoved")
    assert moved.step == unmoved.step == 12
    for name, value in unmoved.model.items():
        torch.testing.assert_close(moved.model[name], value, rtol=1e-4, atol=1e-6)
    record = json.loads((directory / "moved" / "run.json").read_text())
    assert [entry["step"] for entry in record["resumed"]] == [5, 7]
