import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro.distributions import RadialStudentT

DOUBLE = torch.float64


def tensor(x):
    return torch.tensor(x, dtype=DOUBLE)


def integral(d):
    """Over (0, ∞), by r = exp(x)."""
    x = torch.linspace(-60, 60, 200_001, dtype=DOUBLE)
    return torch.trapezoid(torch.exp(d.log_prob(x.exp()) + x), x).item()


@pytest.mark.parametrize("loc", [0.3, 2.0, 16.0])
@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("df", [0.5, 1.0, 10.0])
def test_integrates_to_its_mass(loc, scale, df):
    student = scipy.stats.t(df, loc, scale)
    d = RadialStudentT(tensor(loc), scale, df)
    assert d.log_mass.exp().item() == pytest.approx(student.sf(0), abs=1e-9)
    assert integral(d) == pytest.approx(student.sf(0), abs=1e-6)
    assert integral(RadialStudentT(tensor(loc), scale, df, normalized=True)) == pytest.approx(
        1, abs=1e-6
    )


def test_log_prob_is_students_t():
    r = np.array([0.1, 5.0, 16.0, 100.0])
    d = RadialStudentT(tensor(15.0), 2.0, 3.0)
    expected = scipy.stats.t(3.0, 15.0, 2.0).logpdf(r)
    np.testing.assert_allclose(d.log_prob(torch.from_numpy(r)).numpy(), expected, rtol=1e-9)


def test_samples_follow_the_truncated_law():
    torch.manual_seed(0)
    d = RadialStudentT(tensor(0.5), 1.0, 2.0)
    student = scipy.stats.t(2.0, 0.5, 1.0)
    samples = d.sample((20_000,)).numpy()
    assert samples.min() > 0
    uniform = (student.cdf(samples) - student.cdf(0)) / student.sf(0)
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
