import numpy as np
import pytest
import torch

from vje_pyro.training.memory import MIB, peak_memory

pytest.importorskip("resource")


def test_the_peak_rises_by_what_is_held_and_stays():
    before = peak_memory(torch.device("cpu"))
    held = np.ones(int(before * MIB) // 8 + 64 * MIB // 8)  # more than was ever held
    during = peak_memory(torch.device("cpu"))
    assert during > before + 32
    del held
    assert peak_memory(torch.device("cpu")) >= during
