"""The radial laws against SciPy's."""

import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro.distributions import (
    RadialGamma,
    RadialLogNormal,
    RadialStudentT,
    RadialTruncatedNormal,
)

DOUBLE = torch.float64


def gamma(loc, scale):
    return scipy.stats.gamma((loc / scale) ** 2, scale=scale**2 / loc)


def log_normal(loc, scale):
    sigma = np.sqrt(np.log1p((scale / loc) ** 2))
    return scipy.stats.lognorm(sigma, scale=loc * np.exp(-(sigma**2) / 2))


def truncated_normal(loc, scale):
    return scipy.stats.truncnorm(-loc / scale, 38.0, loc, scale)  # infinity: NaN


@pytest.mark.parametrize(
    ("law", "scipys", "loc", "scale", "matched", "digits"),
    [
        *((RadialGamma, gamma, *at, True, 1e-6) for at in ((16.0, 1.0), (2.0, 5.0), (16.0, 1e-2))),
        *((RadialLogNormal, log_normal, *at, True, 1e-8)
          for at in ((16.0, 1.0), (2.0, 5.0), (16.0, 1e-3))),
        *((RadialTruncatedNormal, truncated_normal, *at, False, 1e-8)
          for at in ((16.0, 1.0), (1.0, 1.0), (0.1, 5.0), (16.0, 1e-3))),
    ],
)  # fmt: skip
def test_density_entropy_and_moments_are_scipys(law, scipys, loc, scale, matched, digits):
    d, reference = law(torch.tensor(loc, dtype=DOUBLE), scale), scipys(loc, scale)
    r = reference.ppf([1e-6 if law is RadialLogNormal else 1e-3, 0.1, 0.5, 0.99])
    np.testing.assert_allclose(d.log_prob(torch.from_numpy(r)), reference.logpdf(r), rtol=digits)
    assert d.entropy().item() == pytest.approx(reference.entropy(), rel=digits)
    assert d.mean.item() == pytest.approx(reference.mean(), rel=1e-9)
    assert d.stddev.item() == pytest.approx(reference.std(), rel=1e-6 if matched else 1e-7)
    if matched:
        assert (d.mean.item(), d.stddev.item()) == pytest.approx((loc, scale))
    else:
        assert d.mode.item() == loc


def test_single_precision_resolves_a_small_scale():
    # Where Gamma is as good as normal: the Gamma functions of float32 have no digit left.
    d, r = RadialGamma(torch.tensor(16.0), 1e-3), torch.tensor([15.998, 16.0, 16.001])
    normal = scipy.stats.norm(16.0, d.scale.item()).logpdf(r.double().numpy())
    np.testing.assert_allclose(d.log_prob(r).numpy(), normal, atol=2e-3)
    single = RadialLogNormal(torch.tensor(16.0), 1e-3)
    double = RadialLogNormal(torch.tensor(16.0, dtype=DOUBLE), single.scale.item())
    torch.testing.assert_close(
        single.log_prob(r).double(), double.log_prob(r.double()), rtol=1e-6, atol=0
    )
    assert single.sample((20_000,)).double().std().item() == pytest.approx(1e-3, rel=0.05)


def test_mode_of_gamma_is_zero_where_the_density_has_a_pole():
    d = RadialGamma(torch.tensor([16.0, 1.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(d.mode, torch.tensor([16 - 1 / 16, 0.0]))


def student_t(loc, scale, df, normalized=False):
    return RadialStudentT(torch.tensor(loc, dtype=DOUBLE), scale, df, normalized=normalized)


@pytest.mark.parametrize("loc", [0.3, 2.0, 16.0])
@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("df", [0.5, 1.0, 10.0])
def test_student_t_integrates_to_its_mass(loc, scale, df):
    """Over (0, ∞), by r = exp(x)."""
    mass = scipy.stats.t(df, loc, scale).sf(0)
    assert student_t(loc, scale, df).log_mass.exp().item() == pytest.approx(mass, abs=1e-9)
    x = torch.linspace(-60, 60, 200_001, dtype=DOUBLE)
    for normalized, expected in ((False, mass), (True, 1)):
        d = student_t(loc, scale, df, normalized)
        integral = torch.trapezoid(torch.exp(d.log_prob(x.exp()) + x), x).item()
        assert integral == pytest.approx(expected, abs=1e-6)


def test_log_prob_of_student_t_is_scipys():
    r = np.array([0.1, 5.0, 16.0, 100.0])
    expected = scipy.stats.t(3.0, 15.0, 2.0).logpdf(r)
    found = student_t(15.0, 2.0, 3.0).log_prob(torch.from_numpy(r)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("d", "untruncated"),
    [
        (student_t(0.5, 1.0, 2.0), scipy.stats.t(2.0, 0.5, 1.0)),
        *((RadialTruncatedNormal(torch.tensor(loc), scale), scipy.stats.norm(loc, scale))
          for loc, scale in ((0.1, 5.0), (16.0, 1.0))),
    ],
    ids=["student-t", "normal-wide", "normal-narrow"],
)  # fmt: skip
def test_samples_follow_the_truncated_law(d, untruncated):
    torch.manual_seed(0)
    samples = d.sample((20_000,)).double().numpy()
    assert samples.min() > 0
    uniform = (untruncated.cdf(samples) - untruncated.cdf(0)) / untruncated.sf(0)
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_pathwise_gradients_keep_each_sample_at_its_quantile():
    parameters = [torch.tensor(x, dtype=DOUBLE, requires_grad=True) for x in (0.5, 1.5)]

    def draw(loc, scale):
        torch.manual_seed(1)
        return RadialTruncatedNormal(loc, scale).rsample((10,))

    assert torch.autograd.gradcheck(draw, tuple(parameters))
