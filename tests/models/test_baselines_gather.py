"""Over two processes a baseline has the loss and the gradient that one process has."""

import subprocess
import sys

import pytest
import torch

from vje_pyro.encoders import SmallResNet
from vje_pyro.models import BarlowTwins, LeJEPA, MoCoV3, SimCLR, VICReg

pytest.importorskip("lightly", reason="lightly is an extra")

METHODS = {
    "SimCLR": SimCLR, "MoCoV3": MoCoV3, "VICReg": VICReg, "BarlowTwins": BarlowTwins,
    "LeJEPA": LeJEPA, "MCInfoNCE": SimCLR,
}  # fmt: skip
"""What each is compared with: MC-InfoNCE of samples that do not scatter is SimCLR."""

PROCESS = """
import sys
import torch
import torch.distributed as dist
import vje_pyro.models as models
from vje_pyro.encoders import SmallResNet

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
inputs, targets, weight = torch.load(f"{folder}/data.pt")
mine = slice(rank * len(inputs[0]) // 2, (rank + 1) * len(inputs[0]) // 2)
found = {}
for name in ("SimCLR", "MoCoV3", "VICReg", "BarlowTwins", "LeJEPA", "MCInfoNCE"):
    method = getattr(models, name)(SmallResNet(1, (4,), 4), hidden_dim=8, output_dim=6)
    shared = weight.clone().requires_grad_()
    torch.manual_seed(rank)  # LeJEPA's directions are those of the first process
    # At this length MC-InfoNCE's samples are the locations, so that the processes draw alike.
    outputs = inputs[:, mine] @ shared * (1e10 if name == "MCInfoNCE" else 1)
    total, _ = method.compare(outputs, targets[:, mine])
    (gradient,) = torch.autograd.grad(total, shared)
    both = torch.cat([total.detach().reshape(1), gradient.flatten()])
    dist.all_reduce(both)
    found[name] = both / 2  # as DistributedDataParallel averages
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
dist.destroy_process_group()
"""


def barlow_twins(outputs):
    """Each process normalises its own half; the correlation is of the whole batch."""
    halves = outputs.chunk(2, dim=1)
    correlation = 0
    for half in halves:
        a, b = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() for x in half)
        correlation = correlation + a.T @ b / len(a) / 2
    difference = (correlation - torch.eye(len(correlation))).square()
    diagonal = difference.diag().sum()
    return 0.1 * (diagonal + 5e-3 * (difference.sum() - diagonal))


@pytest.mark.slow  # two processes import torch
def test_two_processes_are_one(tmp_path):
    torch.manual_seed(0)
    inputs, targets = torch.randn(2, 2, 16, 5, dtype=torch.float64) @ torch.randn(5, 6).double()
    weight = torch.eye(6, dtype=torch.float64) + 0.1
    torch.save((inputs, targets, weight), tmp_path / "data.pt")
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    found = torch.load(tmp_path / "found.pt")
    for name, method in METHODS.items():
        shared = weight.clone().requires_grad_()
        outputs = inputs @ shared
        if name == "BarlowTwins":
            total = barlow_twins(outputs)
        else:
            made = method(SmallResNet(1, (4,), 4), 8, 6)
            torch.manual_seed(0)
            total, _ = made.compare(outputs, targets)
        (gradient,) = torch.autograd.grad(total, shared)
        expected = torch.cat([total.detach().reshape(1), gradient.flatten()])
        rtol, atol = (1e-3, 1e-4) if name == "MCInfoNCE" else (1e-6, 1e-8)
        torch.testing.assert_close(found[name], expected, rtol=rtol, atol=atol)
