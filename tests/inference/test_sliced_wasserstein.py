import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from vje_pyro.inference import SlicedWasserstein


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
