"""VJE over two and four processes is VJE of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SCENARIOS = (
    "plain", "plain-adamw", "plain-accumulated", "checkpointed", "sigreg", "sigreg-accumulated",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By number of processes, then by scenario."""
    directory = tmp_path_factory.mktemp("several")
    command = [sys.executable, str(Path(__file__).with_name("several.py")), str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return {number: torch.load(directory / f"{number}.pt") for number in (1, 2, 4)}


def distance(a, b):
    """Relative, of all tensors as one vector."""
    assert a.keys() == b.keys()
    a, b = (torch.cat([v.flatten().double() for v in tensors.values()]) for tensors in (a, b))
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gradients_are_those_of_one_process(found, scenario, number):
    one, several = (found[n][scenario]["gradients"] for n in (1, number))
    assert distance(one, several) < 1e-6


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_weights_and_statistics_after_four_steps_are_those_of_one_process(found, scenario, number):
    one, several = (found[n][scenario]["state"] for n in (1, number))
    assert distance(one, several) < 1e-5


@pytest.mark.parametrize("number", [1, 2, 4])
def test_accumulation_is_the_whole_batch_where_the_loss_is_a_mean(found, number):
    whole, parts = (found[number][s]["gradients"] for s in ("plain", "plain-accumulated"))
    assert distance(whole, parts) < 1e-6


@pytest.mark.parametrize("number", [1, 2, 4])
def test_accumulation_takes_statistics_of_a_part(found, number):
    whole, parts = (found[number][s]["gradients"] for s in ("sigreg", "sigreg-accumulated"))
    assert distance(whole, parts) > 1e-3


@pytest.mark.parametrize("number", [1, 2, 4])
def test_activation_checkpointing_changes_nothing(found, number):
    kept, recomputed = (found[number][s] for s in ("plain", "checkpointed"))
    assert distance(kept["gradients"], recomputed["gradients"]) < 1e-7
    assert distance(kept["state"], recomputed["state"]) < 1e-7
