import math

import pytest
import torch

from vje_pyro.inference import SlicedEppsPulley


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
