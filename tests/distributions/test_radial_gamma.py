import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro.distributions import RadialGamma

DOUBLE = torch.float64


@pytest.mark.parametrize(("loc", "scale"), [(16.0, 1.0), (2.0, 5.0), (16.0, 1e-2)])
def test_is_scipys_with_mean_and_standard_deviation_matched(loc, scale):
    d = RadialGamma(torch.tensor(loc, dtype=DOUBLE), scale)
    law = scipy.stats.gamma((loc / scale) ** 2, scale=scale**2 / loc)
    assert law.mean() == pytest.approx(loc)
    assert law.std() == pytest.approx(scale)
    r = law.ppf([0.1, 0.5, 0.99])
    np.testing.assert_allclose(d.log_prob(torch.from_numpy(r)), law.logpdf(r), rtol=1e-6)
    assert d.entropy().item() == pytest.approx(law.entropy(), rel=1e-6)
    assert d.mean.item() == pytest.approx(loc)
    assert d.stddev.item() == pytest.approx(scale)


def test_single_precision_resolves_a_small_scale():
    """Where it is as good as normal: the Gamma functions of torch's float32 have no digit left."""
    d = RadialGamma(torch.tensor(16.0), 1e-3)
    r = torch.tensor([15.998, 16.0, 16.001])
    normal = scipy.stats.norm(16.0, d.scale.item()).logpdf(r.double().numpy())
    np.testing.assert_allclose(d.log_prob(r).numpy(), normal, atol=2e-3)


def test_mode_is_zero_where_the_density_has_a_pole():
    d = RadialGamma(torch.tensor([16.0, 1.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(d.mode, torch.tensor([16 - 1 / 16, 0.0]))
