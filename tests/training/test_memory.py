import subprocess
import sys

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
    # Linux counts pages in batches, so that its peak is right to some of them only.
    assert peak_memory(torch.device("cpu")) > during - 1


def test_a_process_has_no_part_in_what_its_parent_held():
    held = np.ones(1024 * MIB // 8)
    program = (
        "import torch; from vje_pyro.training.memory import peak_memory; "
        "print(peak_memory(torch.device('cpu')))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 0 < float(output.stdout) < peak_memory(torch.device("cpu")) - 256
    del held
