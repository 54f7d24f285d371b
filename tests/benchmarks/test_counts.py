"""Bytes of a step: what is counted is alive, or sent, and is what docs/how-to/scaling.md says."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from benchmarks import counts
from vje_pyro.encoders import SmallResNet


def test_the_peak_counts_what_is_alive():
    there = torch.zeros(1000)
    with counts.LiveTensors(there) as live:
        a = there + 1
        b = a.view(10, 100).t()  # shares what is counted already
        assert live.now == 8000
        del a
        assert live.now == 8000
        del b
        assert live.now == 4000
        c = there * 2 + 1
    assert live.peak == 12000
    assert live.now == there.nbytes + c.nbytes


def test_memory_of_a_small_encoder(monkeypatch):
    make = partial(SmallResNet, widths=(8, 16, 32), stem_width=8)
    monkeypatch.setitem(counts.ENCODERS, "tiny", (make, 32, 64))
    found = counts.memory("tiny")
    assert found["kept"]["step"] > found["kept"]["bound"]
    assert found["checkpointed"]["step"] < 0.9 * found["kept"]["step"]
    assert 0.9 < found["step_over_formula"] < 1.1
    assert found["flops_per_image_and_view"] > 1e6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes")
def test_bytes_that_are_sent_are_those_of_the_formula(tmp_path):
    # In a process that has not started threads.
    command = [sys.executable, "-m", "benchmarks.counts", "communication", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "communication.json").read_text())["scenarios"]
    assert found.keys() == counts.SCENARIOS.keys()
    for figures in found.values():
        assert figures["bytes"] == figures["formula"]
