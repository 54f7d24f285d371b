"""The memory of a step: the counter, and the figures of a tiny encoder."""

from functools import partial

import memory
import torch

from vje_pyro.encoders import SmallResNet


def test_the_peak_counts_what_is_alive():
    there = torch.zeros(1000)
    with memory.LiveTensors(there) as live:
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


def test_figures_of_a_small_encoder(monkeypatch):
    make = partial(SmallResNet, widths=(8, 16, 32), stem_width=8)
    monkeypatch.setitem(memory.ENCODERS, "tiny", (make, 32, 1))
    found = memory.measure("tiny", 64)
    assert found["kept"]["step"] > found["kept"]["bound"]
    assert found["checkpointed"]["step"] < 0.9 * found["kept"]["step"]
    assert 0.9 < found["step_over_formula"] < 1.1
    assert found["flops_per_image_and_view"] > 1e6
