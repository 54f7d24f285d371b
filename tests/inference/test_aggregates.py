"""Regularisers of the aggregate: what they have in common, and each against its formula."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

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


# ------------------------------------------------------------- each against an independent number


def test_one_dimension_has_the_closed_form():
    """Expanding the square, the integrals of the Gaussian weight are elementary."""
    torch.manual_seed(0)
    x = torch.randn(40, 1, dtype=torch.float64)
    pairs = torch.exp(-((x - x.T) ** 2) / 2).mean()
    cross = torch.exp(-(x**2) / 4).mean() / math.sqrt(2)
    expected = 40 * math.sqrt(2 * math.pi) * (pairs - 2 * cross + 1 / math.sqrt(3))
    statistic = SlicedEppsPulley(weight=1.0, num_directions=3, num_points=201).double()
    assert statistic(x).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_prior_is_nearest_and_does_not_depend_on_the_sample_size():
    torch.manual_seed(1)
    statistic = SlicedEppsPulley(weight=1.0)
    values = {
        n: torch.stack([statistic(torch.randn(n, 16)) for _ in range(50)]).mean()
        for n in (64, 1024)
    }
    # E T = ∫ (1 − φ²) w = √(2π) (1 − 1/√3) for a sample of the prior.
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    for value in values.values():
        assert value.item() == pytest.approx(expected, rel=0.05)
    for other in (0.5 * torch.randn(1024, 16), 2 + torch.randn(1024, 16), torch.zeros(1024, 16)):
        assert statistic(other) > 5 * expected


@pytest.mark.parametrize("num_points", [2, 6, 17])
def test_half_of_the_nodes_give_the_whole_trapezoidal_rule(num_points):
    torch.manual_seed(3)
    x, statistic = (
        torch.randn(30, 4),
        SlicedEppsPulley(1.0, num_directions=5, num_points=num_points),
    )
    torch.manual_seed(4)
    found = statistic(x)
    torch.manual_seed(4)
    projections = x @ torch.nn.functional.normalize(torch.randn(4, 5), dim=0)
    t = torch.linspace(-5, 5, num_points)
    empirical = torch.exp(1j * projections[..., None] * t).mean(0)
    weight = torch.exp(-t.square() / 2)
    whole = torch.trapezoid((empirical - weight).abs().square() * weight, t, dim=-1)
    torch.testing.assert_close(found, 30 * whole.mean())


def test_one_dimension_is_the_optimal_assignment():
    torch.manual_seed(0)
    x = 2 * torch.randn(30, 1, dtype=torch.float64) + 1
    quantiles = norm.ppf((torch.arange(30).numpy() + 0.5) / 30)
    cost = (x.numpy() - quantiles[None]) ** 2
    expected = cost[linear_sum_assignment(cost)].sum()
    # A direction on a line is 1 or -1, and quantiles are symmetric.
    mirrored = (-x.numpy() - quantiles[None]) ** 2
    both = {expected, mirrored[linear_sum_assignment(mirrored)].sum()}
    distance = SlicedWasserstein(weight=0.5, num_directions=1).double()
    found = {round(2 * distance(x).item(), 8) for _ in range(20)}
    assert found == {round(value, 8) for value in both}


def test_for_a_normal_sample_it_is_the_distance_of_two_normals():
    """N times (mean squared) plus (standard deviation minus one) squared, in every direction."""
    torch.manual_seed(1)
    x = 1.5 * torch.randn(20_000, 3)
    distance = SlicedWasserstein(weight=1.0)(x) / len(x)
    assert distance.item() == pytest.approx(0.25, rel=0.03)


def test_it_is_the_formula_on_numpys_covariance():
    torch.manual_seed(0)
    x = torch.randn(40, 5, dtype=torch.float64) @ torch.randn(5, 5).double() * 0.4
    c = np.cov(x.numpy().T)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).sum()
    correlated = (c**2).sum() - (np.diag(c) ** 2).sum()
    value = VarianceCovariance(weight=3.0)(x).item()
    assert value == pytest.approx(3 * (hinge + correlated) / 5, rel=1e-10)
    assert hinge > 0.1
    assert correlated > 0.1


def test_white_data_cost_nothing():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double() * 3**0.5 / 2 * 1.01
    assert VarianceCovariance(weight=1.0)(x).item() == pytest.approx(0, abs=1e-12)
