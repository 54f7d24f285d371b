import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro.distributions import RadialLogNormal

DOUBLE = torch.float64


@pytest.mark.parametrize(("loc", "scale"), [(16.0, 1.0), (2.0, 5.0), (16.0, 1e-3)])
def test_is_scipys_with_mean_and_standard_deviation_matched(loc, scale):
    d = RadialLogNormal(torch.tensor(loc, dtype=DOUBLE), scale)
    sigma = np.sqrt(np.log1p((scale / loc) ** 2))
    law = scipy.stats.lognorm(sigma, scale=loc * np.exp(-(sigma**2) / 2))
    assert law.mean() == pytest.approx(loc)
    assert law.std() == pytest.approx(scale)
    r = law.ppf([1e-6, 0.1, 0.5, 0.99])
    np.testing.assert_allclose(d.log_prob(torch.from_numpy(r)), law.logpdf(r), rtol=1e-8)
    assert d.entropy().item() == pytest.approx(law.entropy())
    assert d.mean.item() == pytest.approx(loc)
    assert d.stddev.item() == pytest.approx(scale)


def test_single_precision_resolves_a_small_scale():
    single = RadialLogNormal(torch.tensor(16.0), 1e-3)
    double = RadialLogNormal(torch.tensor(16.0, dtype=DOUBLE), single.scale.item())
    r = torch.tensor([15.998, 16.0, 16.001])
    torch.testing.assert_close(
        single.log_prob(r).double(), double.log_prob(r.double()), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        single.sample((20_000,)).double().std().item(), 1e-3, rtol=0.05, atol=0
    )
