"""What all regularisers of the aggregate have in common."""

import os
import subprocess
import sys

import pytest
import torch

from vje_pyro.inference import SlicedEppsPulley, SlicedWasserstein, VarianceCovariance

AGGREGATES = {
    "epps_pulley": SlicedEppsPulley,
    "sliced_wasserstein": SlicedWasserstein,
    "variance_covariance": VarianceCovariance,
}
PATHS = {
    "shift": lambda x, k: x + 0.25 * k,
    "wider": lambda x, k: x * (1 + 0.25 * k),
    "narrower": lambda x, k: x * (1 - 0.2 * k),
    "correlated": lambda x, k: x + 0.3 * k * x.roll(1, dims=1),
}
BLIND = {("variance_covariance", "shift"), ("variance_covariance", "wider")}
"""What two moments without the mean, and a hinge, do not see."""

PROCESSES = """
import os
import sys
import torch
import torch.distributed as dist
from vje_pyro.inference import SlicedEppsPulley, SlicedWasserstein, VarianceCovariance

folder, world = sys.argv[1], int(sys.argv[2])
data, weight = torch.load(f"{folder}/data.pt")
rank = 0
for other in range(1, world):
    if os.fork() == 0:
        rank = other
        break
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
found = {}
for aggregate in (SlicedEppsPulley, SlicedWasserstein, VarianceCovariance):
    shared = weight.clone().requires_grad_()
    torch.manual_seed(5 + rank)  # as in training, every process has its own stream
    loss = aggregate(weight=1.0).double()(data.chunk(world)[rank] @ shared)
    (gradient,) = torch.autograd.grad(loss, shared)
    dist.all_reduce(gradient)
    losses = [torch.empty_like(loss) for _ in range(world)]
    dist.all_gather(losses, loss.detach())
    found[aggregate.__name__] = losses, gradient / world  # as DistributedDataParallel averages
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
dist.barrier()
os._exit(0)
"""


@pytest.fixture(params=AGGREGATES)
def name(request):
    return request.param


@pytest.mark.parametrize("path", PATHS)
def test_it_grows_with_the_distance_from_the_prior(name, path):
    sample = torch.randn(2000, 4, generator=torch.Generator().manual_seed(2))
    values = []
    for k in range(4):
        torch.manual_seed(3)  # the same directions
        values.append(AGGREGATES[name](weight=1.0)(PATHS[path](sample, k)).item())
    if (name, path) in BLIND:
        assert values[-1] < 0.5
        return
    assert values == sorted(values)
    assert values[-1] > 8 * values[0]


def test_its_gradient_matches_finite_differences(name):
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    aggregate = AGGREGATES[name](weight=1.0).double()

    def seeded(x):
        torch.manual_seed(4)
        return aggregate(x)

    assert torch.autograd.gradcheck(seeded, x)


def test_a_collapsed_batch_has_a_finite_gradient(name):
    x = torch.zeros(8, 3, requires_grad=True)
    AGGREGATES[name](weight=1.0)(x).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        *((name, {"weight": 2.0}) for name in AGGREGATES),
        ("epps_pulley", {"num_directions": 8}),
        ("epps_pulley", {"num_points": 5}),
        ("sliced_wasserstein", {"num_directions": 8}),
    ],
)
def test_every_knob_changes_it(name, knob):
    x = torch.rand(32, 4, generator=torch.Generator().manual_seed(0))
    values = []
    for arguments in ({"weight": 1.0}, {"weight": 1.0} | knob):
        torch.manual_seed(3)
        values.append(AGGREGATES[name](**arguments)(x).item())
    assert values[0] != values[1]


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        *((name, {"weight": -1.0}) for name in AGGREGATES),
        ("epps_pulley", {"num_directions": 0}),
        ("epps_pulley", {"num_points": 1}),
        ("sliced_wasserstein", {"num_directions": 0}),
    ],
)
def test_bad_arguments_are_named(name, knob):
    ((argument, value),) = knob.items()
    with pytest.raises(ValueError, match=f"{argument}.*{value}"):
        AGGREGATES[name](**knob)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes")
def test_over_processes_it_is_that_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    data, weight = torch.randn(32, 5).double() * 1.5, torch.eye(5).double() + 0.2
    torch.save((data, weight), tmp_path / "data.pt")
    command = [sys.executable, "-c", PROCESSES, str(tmp_path), "2"]
    assert subprocess.run(command, check=False, timeout=300).returncode == 0
    found = torch.load(tmp_path / "found.pt")
    for aggregate in AGGREGATES.values():
        shared = weight.clone().requires_grad_()
        torch.manual_seed(5)  # the first process's directions
        loss = aggregate(weight=1.0).double()(data @ shared)
        (gradient,) = torch.autograd.grad(loss, shared)
        losses, averaged = found[aggregate.__name__]
        for other in losses:
            torch.testing.assert_close(other, loss.detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(averaged, gradient, rtol=1e-10, atol=1e-12)
