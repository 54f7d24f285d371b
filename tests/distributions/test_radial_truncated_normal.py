import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro.distributions import RadialTruncatedNormal

DOUBLE = torch.float64


@pytest.mark.parametrize(("loc", "scale"), [(16.0, 1.0), (1.0, 1.0), (0.1, 5.0), (16.0, 1e-3)])
def test_is_scipys(loc, scale):
    d = RadialTruncatedNormal(torch.tensor(loc, dtype=DOUBLE), scale)
    law = scipy.stats.truncnorm(-loc / scale, 38.0, loc, scale)  # infinity: NaN
    r = law.ppf([0.001, 0.1, 0.5, 0.99])
    np.testing.assert_allclose(d.log_prob(torch.from_numpy(r)), law.logpdf(r), rtol=1e-8)
    assert d.entropy().item() == pytest.approx(law.entropy(), rel=1e-8)
    assert d.mean.item() == pytest.approx(law.mean(), rel=1e-9)
    assert d.stddev.item() == pytest.approx(law.std(), rel=1e-7)
    assert d.mode.item() == loc


@pytest.mark.parametrize(("loc", "scale"), [(0.1, 5.0), (16.0, 1.0)])
def test_samples_follow_the_truncated_law(loc, scale):
    torch.manual_seed(0)
    d = RadialTruncatedNormal(torch.tensor(loc), scale)
    samples = d.sample((20_000,)).double().numpy()
    assert samples.min() > 0
    law = scipy.stats.truncnorm(-loc / scale, np.inf, loc, scale)
    assert scipy.stats.kstest(samples, law.cdf).pvalue > 1e-3


def test_pathwise_gradients_keep_each_sample_at_its_quantile():
    parameters = [torch.tensor(x, dtype=DOUBLE) for x in (0.5, 1.5)]

    def draw(loc, scale):
        torch.manual_seed(1)
        return RadialTruncatedNormal(loc, scale).rsample((10,))

    for p in parameters:
        p.requires_grad_()
    assert torch.autograd.gradcheck(draw, tuple(parameters))
