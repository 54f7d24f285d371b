import math

import mpmath
import pytest
import scipy.stats
import torch

from vje_pyro.distributions._ball_probability import log_ball_probability

DOUBLE = torch.float64


def unit_vector(dim):
    return torch.nn.functional.normalize(torch.randn(dim, dtype=DOUBLE), dim=0)


@pytest.mark.parametrize("dim", [3, 4, 30, 256, 2048])
@pytest.mark.parametrize("df", [0.5, 50.0, 1e3, 1e5])
def test_equal_scales_follow_the_f_distribution(dim, df):
    torch.manual_seed(0)
    scale = torch.tensor([1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3], dtype=DOUBLE)
    inside, outside = log_ball_probability(
        scale[:, None].expand(-1, dim), torch.tensor(df), torch.tensor(2.0), unit_vector(dim)
    )
    law = scipy.stats.f(dim - 1, df)
    for tau, log_p, log_q in zip(scale.tolist(), inside.tolist(), outside.tolist(), strict=True):
        threshold = 4 / ((dim - 1) * tau**2)
        for ours, scipys in ((log_p, law.logcdf(threshold)), (log_q, law.logsf(threshold))):
            if math.isfinite(scipys) and scipys < -1e-300:  # SciPy underflows before we do
                assert ours == pytest.approx(scipys, rel=1e-9, abs=1e-9)
            assert math.isfinite(log_p)


@pytest.mark.parametrize("dim", [3, 4, 30, 256, 2048])
def test_equal_scales_of_a_normal_vector_follow_chi_square(dim):
    torch.manual_seed(0)
    # From deep in one tail to deep in the other, with a fine step about the middle.
    size = torch.cat([torch.logspace(-3, 3, 7, dtype=DOUBLE), torch.linspace(0.8, 1.2, 9)])
    scale = 2 * size / math.sqrt(dim - 1)
    inside, outside = log_ball_probability(
        scale[:, None].expand(-1, dim), None, torch.tensor(2.0), unit_vector(dim)
    )
    law = scipy.stats.chi2(dim - 1)
    for tau, log_p, log_q in zip(scale.tolist(), inside.tolist(), outside.tolist(), strict=True):
        for ours, scipys in ((log_p, law.logcdf(4 / tau**2)), (log_q, law.logsf(4 / tau**2))):
            if math.isfinite(scipys) and scipys < -1e-300:
                assert ours == pytest.approx(scipys, rel=1e-9, abs=1e-9)
            assert math.isfinite(log_p)


@pytest.mark.parametrize("df", [None, 0.5, 5.0, 1e3])
@pytest.mark.parametrize("size", [1e-2, 0.3, 1.0, 3.0, 100.0])
def test_the_condition_is_a_change_of_coordinates(df, size):
    """The same from the eigenvalues of the conditional covariance, as far as both tails go."""
    torch.manual_seed(3)
    scale, normal = size * torch.exp(torch.randn(6, dtype=DOUBLE)), unit_vector(6)
    basis = torch.linalg.svd(normal[None]).Vh[1:]
    precision = basis @ torch.diag(scale**-2) @ basis.T
    eigen = torch.linalg.eigvalsh(precision).rsqrt()
    df = None if df is None else torch.tensor(df, dtype=DOUBLE)
    radius = torch.tensor(2.0, dtype=DOUBLE)
    torch.testing.assert_close(
        log_ball_probability(scale, df, radius, normal),
        log_ball_probability(eigen, df, radius),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("df", [0.5, 1.0, 3.0, 30.0])
def test_one_dimension_follows_students_t(df):
    radius = torch.tensor([0.1, 1.0, 4.0, 50.0], dtype=DOUBLE)
    _, outside = log_ball_probability(torch.ones(4, 1), torch.tensor(df), radius)
    expected = math.log(2) + scipy.stats.t(df).logsf(radius.numpy())
    torch.testing.assert_close(outside, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("df", [1.0, 5.0])
def test_unequal_scales_against_monte_carlo(df):
    torch.manual_seed(1)
    dim, count = 5, 400_000
    scale, normal = torch.rand(dim, dtype=DOUBLE) * 2 + 0.05, unit_vector(dim)
    y = torch.randn(count, dim, dtype=DOUBLE) * scale
    along = (y @ normal) / (normal * scale).square().sum()
    y = y - along[:, None] * scale.square() * normal  # conditioned on normal · y = 0
    g = torch.distributions.Chi2(torch.tensor(df, dtype=DOUBLE)).sample((count,)) / df
    share = (y.square().sum(-1) <= 4 * g).double().mean().item()
    inside, outside = log_ball_probability(scale, torch.tensor(df), torch.tensor(2.0), normal)
    error = math.sqrt(share * (1 - share) / count)
    assert abs(inside.exp().item() - share) < 4 * error
    assert inside.exp().item() + outside.exp().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [0.2, 5.0])  # either tail
def test_gradients_match_finite_differences(size):
    torch.manual_seed(2)
    scale = (size * (torch.rand(2, 4, dtype=DOUBLE) + 0.5)).requires_grad_()
    df = torch.tensor([1.5, 4.0], dtype=DOUBLE, requires_grad=True)
    radius = torch.tensor([2.0, 1.0], dtype=DOUBLE, requires_grad=True)
    normal = unit_vector(4).requires_grad_()
    assert torch.autograd.gradcheck(
        log_ball_probability, (scale, df, radius, normal), atol=1e-6, fast_mode=True
    )


@pytest.mark.parametrize("df", [0.5, 3.0])
@pytest.mark.parametrize("size", [1e-3, 0.1, 3.0])
def test_unequal_scales_are_a_mixture_of_normal_vectors(df, size):
    """Over t = log g with g ~ chi²(df)/df: the normal vector's integrand decays quite otherwise."""
    torch.manual_seed(4)
    scale, normal = size * torch.exp(1.5 * torch.randn(64, dtype=DOUBLE)), unit_vector(64)
    log_g = torch.linspace(-110, 6, 700, dtype=DOUBLE)
    log_density = torch.from_numpy(scipy.stats.chi2(df).logpdf(df * log_g.exp().numpy()))
    log_weight = log_density + log_g + math.log(df) + (log_g[1] - log_g[0]).log()
    parts = log_ball_probability(scale, None, 2 * (log_g / 2).exp(), normal)
    wholes = log_ball_probability(scale, torch.tensor(df, dtype=DOUBLE), torch.tensor(2.0), normal)
    for part, whole in zip(parts, wholes, strict=True):
        assert (part + log_weight).logsumexp(0).item() == pytest.approx(
            whole.item(), rel=1e-10, abs=1e-10
        )


@pytest.mark.parametrize("is_normal", [False, True])
@pytest.mark.parametrize("conditioned", [False, True])
def test_every_gradient_matches_finite_differences(is_normal, conditioned):
    """Of data on both sides of the middle."""
    torch.manual_seed(5)
    scale = torch.tensor([[0.2], [5.0]], dtype=DOUBLE) * (torch.rand(2, 16, dtype=DOUBLE) + 0.5)
    df = None if is_normal else torch.tensor([1.0, 6.0], dtype=DOUBLE, requires_grad=True)
    normal = unit_vector(16).requires_grad_() if conditioned else None
    radius = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    arguments = (scale.requires_grad_(), df, radius, normal)
    assert torch.autograd.gradcheck(log_ball_probability, arguments, atol=1e-7, fast_mode=True)


def test_blocks_of_data_do_not_change_the_result(monkeypatch):
    torch.manual_seed(6)
    scale = torch.rand(7, 20, dtype=DOUBLE, requires_grad=True)
    df, radius = torch.tensor(1.0), torch.tensor(2.0)

    def value_and_gradient():
        inside, _ = log_ball_probability(scale, df, radius, torch.ones(20) / math.sqrt(20))
        return inside.detach(), *torch.autograd.grad(inside.sum(), scale)

    whole = value_and_gradient()
    monkeypatch.setattr("vje_pyro.distributions._ball_probability._BLOCK", 3 * 20 * 64)
    torch.testing.assert_close(value_and_gradient(), whole, rtol=1e-12, atol=1e-14)


def test_an_empty_batch():
    inside, _ = log_ball_probability(torch.ones(0, 5), torch.tensor(1.0), torch.tensor(2.0))
    assert inside.shape == (0,)


@pytest.mark.parametrize("is_normal", [False, True])
@pytest.mark.parametrize("conditioned", [False, True])
def test_every_second_derivative_matches_finite_differences(is_normal, conditioned):
    """Of both logarithms, of data on both sides of the middle."""
    torch.manual_seed(7)
    scale = torch.tensor([[0.3], [3.0]], dtype=DOUBLE) * (torch.rand(2, 5, dtype=DOUBLE) + 0.5)
    df = None if is_normal else torch.tensor([1.0, 0.2], dtype=DOUBLE, requires_grad=True)
    normal = unit_vector(5).requires_grad_() if conditioned else None
    radius = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    arguments = (scale.requires_grad_(), df, radius, normal)
    assert torch.autograd.gradgradcheck(log_ball_probability, arguments, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("dim", [3, 16, 512])
def test_few_degrees_of_freedom_keep_all_digits(dim):
    """From scales of a thousandth to a thousand, against the incomplete Beta function."""
    scales = [1e-3, 0.03, 0.3, 1.0, 5.0, 100.0, 1e3]
    for df in (0.01, 0.05, 0.2):
        inside, outside = log_ball_probability(
            torch.tensor(scales, dtype=DOUBLE)[:, None].expand(-1, dim),
            torch.tensor(df, dtype=DOUBLE),
            torch.tensor(2.0, dtype=DOUBLE),
            unit_vector(dim),
        )
        for tau, *ours in zip(scales, inside.tolist(), outside.tolist(), strict=True):
            for value, exact in zip(ours, equal_scales_by_mpmath(dim - 1, df, tau), strict=True):
                assert value == pytest.approx(exact, rel=1e-8, abs=1e-8)


def equal_scales_by_mpmath(dim, df, tau):
    """Logarithms of the distribution function at radius 2, and of what it leaves."""
    with mpmath.workdps(40):
        x = 4 / (mpmath.mpf(df) * mpmath.mpf(tau) ** 2)
        x = x / (1 + x)
        a, b = mpmath.mpf(dim) / 2, mpmath.mpf(df) / 2
        swap = x > a / (a + b)
        if swap:
            a, b, x = b, a, 1 - x
        log_beta = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
        series = mpmath.hyp2f1(a + b, 1, a + 1, x)
        tail = a * mpmath.log(x) + b * mpmath.log1p(-x) - mpmath.log(a) - log_beta
        tail += mpmath.log(series)
        both = float(tail), float(mpmath.log(-mpmath.expm1(tail)))
    return both[::-1] if swap else both
