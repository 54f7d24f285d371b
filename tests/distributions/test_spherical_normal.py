import math

import pytest
import scipy.stats
import torch
from torch.nn.functional import normalize

from vje_pyro.distributions import SphericalNormal

DOUBLE = torch.float64


def test_log_prob_is_the_tangent_normal():
    """The formula with an explicit basis of the tangent plane and SciPy's dense normal."""
    torch.manual_seed(0)
    loc = normalize(torch.randn(6, dtype=DOUBLE), dim=0)
    scale = 0.4 * torch.exp(torch.randn(6, dtype=DOUBLE))
    value = normalize(torch.randn(100, 6, dtype=DOUBLE), dim=-1)
    basis = torch.linalg.svd(loc[None]).Vh[1:]
    covariance = torch.linalg.inv(basis @ torch.diag(scale**-2) @ basis.T)
    tangent = normalize(value - (value @ loc)[:, None] * loc, dim=-1) @ basis.T
    tangent = tangent * (value - loc).norm(dim=-1, keepdim=True)
    expected = scipy.stats.multivariate_normal(cov=covariance.numpy()).logpdf(tangent.numpy())
    torch.testing.assert_close(
        SphericalNormal(loc, scale).log_prob(value),
        torch.from_numpy(expected),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize(("dim", "scale"), [(3, 0.4), (3, 2.0), (32, 0.2)])
def test_draws_have_a_truncated_chi_square_chord(dim, scale):
    torch.manual_seed(1)
    d = SphericalNormal(torch.eye(dim, dtype=DOUBLE)[0], scale)
    square = (d.sample((20_000,)) - d.loc).square().sum(-1).numpy() / scale**2
    law = scipy.stats.chi2(dim - 1)
    inside = law.cdf(4 / scale**2)
    assert scipy.stats.kstest(law.cdf(square) / inside, "uniform").pvalue > 1e-3
    assert d.log_acceptance.item() == pytest.approx(math.log(inside), abs=1e-9)


def test_a_narrow_law_has_the_mean_of_the_chord():
    """E cos = 1 − E‖w‖²/2 = 1 − (D − 1) τ²/2 where nothing is cut off."""
    d = SphericalNormal(normalize(torch.ones(16, dtype=DOUBLE), dim=0), 0.05)
    length = 1 - 15 * 0.05**2 / 2
    torch.testing.assert_close(d.mean, length * d.loc, rtol=1e-9, atol=1e-9)
