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


@pytest.mark.parametrize("normalized", [False, True])
def test_gradients_match_finite_differences(normalized):
    parameters = [tensor([0.5, 3.0]), tensor([1.0, 0.3]), tensor([1.0, 4.0]), tensor([0.7, 2.0])]
    for p in parameters:
        p.requires_grad_()

    def log_prob(loc, scale, df, value):
        return RadialStudentT(loc, scale, df, normalized=normalized).log_prob(value)

    assert torch.autograd.gradcheck(log_prob, tuple(parameters), atol=1e-6)


def test_shapes_broadcast_and_expand_keeps_the_class():
    d = RadialStudentT(torch.ones(4, 1), torch.ones(3), 1.0, normalized=True)
    assert d.batch_shape == (4, 3)
    expanded = d.expand((2, 4, 3))
    assert type(expanded) is RadialStudentT
    assert expanded.normalized
    assert expanded.log_prob(torch.tensor(2.0)).shape == (2, 4, 3)
    assert d.sample((5,)).shape == (5, 4, 3)
    torch.testing.assert_close(d.mode, d.loc)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loc": torch.tensor(-1.0)}, "parameter loc"),
        ({"scale": 0.0}, "parameter scale"),
        ({"df": -2.0}, "parameter df"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    arguments = {"loc": torch.tensor(1.0), "scale": 1.0, "df": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        RadialStudentT(**arguments, validate_args=True)


def test_negative_radii_are_refused():
    with pytest.raises(ValueError, match="within the support"):
        RadialStudentT(torch.tensor(1.0), 1.0, 1.0, validate_args=True).log_prob(torch.tensor(-1.0))
