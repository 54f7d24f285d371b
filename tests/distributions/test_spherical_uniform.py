import math

import pytest
import scipy.stats
import torch
from torch.nn.functional import normalize

from vje_pyro.distributions import SphericalUniform

DOUBLE = torch.float64


@pytest.mark.parametrize(("dim", "area"), [(3, 4 * math.pi), (4, 2 * math.pi**2), (6, math.pi**3)])
def test_density_is_one_over_the_area(dim, area):
    d = SphericalUniform(dim)
    value = normalize(torch.randn(5, dim, dtype=DOUBLE), dim=-1)
    torch.testing.assert_close(
        d.log_prob(value), torch.full((5,), -math.log(area), dtype=DOUBLE), rtol=1e-12, atol=0
    )
    assert d.entropy().item() == pytest.approx(math.log(area), rel=1e-6)


def test_high_dimensions_do_not_overflow():
    d = SphericalUniform(2048)
    exact = math.log(2) + 1024 * math.log(math.pi) - math.lgamma(1024)
    assert d.entropy().item() == pytest.approx(exact, rel=1e-6)
    assert d.log_prob(d.sample()).item() == pytest.approx(-exact, rel=1e-6)


@pytest.mark.parametrize("dim", [3, 8])
def test_samples_are_uniform(dim):
    """A coordinate of a uniform direction is a Beta variable on [−1, 1]."""
    torch.manual_seed(0)
    d = SphericalUniform(dim)
    samples = d.sample((20_000,))
    assert d.support.check(samples).all()
    axis = normalize(torch.randn(dim), dim=0)
    law = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2, -1, 2)
    assert scipy.stats.kstest((samples @ axis).numpy(), law.cdf).pvalue > 1e-3
    torch.testing.assert_close(samples.mean(0), d.mean, atol=0.03, rtol=0)


def test_shapes_broadcast_and_expand_keeps_the_class():
    d = SphericalUniform(5, (3,))
    assert SphericalUniform.infer_shapes(5, (3,)) == (d.batch_shape, d.event_shape) == ((3,), (5,))
    assert d.rsample((2,)).shape == (2, 3, 5)
    assert d.entropy().shape == (3,)
    expanded = d.expand((4, 3))
    assert type(expanded) is SphericalUniform
    assert expanded.log_prob(torch.eye(5)[0]).shape == (4, 3)
    assert expanded.to_event(1).event_shape == (3, 5)


def test_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 3 dimensions, got 2"):
        SphericalUniform(2)


@pytest.mark.parametrize("value", [torch.ones(4), torch.eye(5)[0]])
def test_values_that_are_no_directions_are_refused(value):
    with pytest.raises(ValueError, match=r"off the sphere|event"):
        SphericalUniform(4, validate_args=True).log_prob(value)
