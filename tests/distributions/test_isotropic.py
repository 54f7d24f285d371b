"""The two isotropic laws: von Mises–Fisher and power spherical."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, SphericalUniform, VonMisesFisher

DOUBLE = torch.float64
both = pytest.mark.parametrize("law", [PowerSpherical, VonMisesFisher])


def make(law, dim, concentration, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    loc = normalize(torch.randn(dim, dtype=DOUBLE, generator=generator), dim=0).to(dtype)
    return law(loc, concentration=torch.as_tensor(concentration, dtype=dtype))


def log_area(dim):
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


# ------------------------------------------------------------------------------------ the densities


def exact_peak(dim, kappa):
    """Log density of von Mises–Fisher at the mode, in 50 digits."""
    with mpmath.workdps(50):
        order, kappa = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa)
        log_bessel = mpmath.log(mpmath.besseli(order, kappa))
        return kappa + order * mpmath.log(kappa) - mpmath.log(2 * mpmath.pi) * dim / 2 - log_bessel


@pytest.mark.parametrize("dim", [3, 4, 35, 512, 2047, 2048])
def test_normalizer_agrees_with_mpmath(dim):
    for exponent in range(-8, 9):
        kappa = 10.0**exponent
        expected = exact_peak(dim, kappa)
        d = make(VonMisesFisher, dim, kappa)
        peak = d.log_prob(d.mode).item()
        assert peak == pytest.approx(float(expected), rel=1e-8)
        assert peak - kappa == pytest.approx(float(expected - kappa), rel=1e-8)
        single = make(VonMisesFisher, dim, kappa, dtype=torch.float32)
        expected = exact_peak(dim, single.concentration.item())
        assert single.log_prob(single.mode).item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dim", [3, 4, 7, 16, 64])
@pytest.mark.parametrize("kappa", [0.01, 1.0, 20.0, 500.0])
def test_log_prob_and_entropy_are_scipys(dim, kappa):
    d = make(VonMisesFisher, dim, kappa)
    law = scipy.stats.vonmises_fisher(d.loc.numpy(), kappa)
    value = normalize(torch.randn(20, dim, dtype=DOUBLE), dim=-1)
    np.testing.assert_allclose(d.log_prob(value), law.logpdf(value.numpy()), rtol=1e-9)
    assert d.entropy().item() == pytest.approx(law.entropy(), rel=1e-8)


def test_three_dimensions_are_elementary():
    kappa = torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=DOUBLE)
    d = VonMisesFisher(torch.eye(3, dtype=DOUBLE)[1], concentration=kappa)
    value = normalize(torch.tensor([0.3, 0.5, -0.2], dtype=DOUBLE), dim=0)
    density = kappa / (4 * math.pi * kappa.sinh()) * torch.exp(kappa * value[1])
    torch.testing.assert_close(d.log_prob(value), density.log(), rtol=1e-9, atol=0)
    torch.testing.assert_close(d.mean[:, 1], 1 / kappa.tanh() - 1 / kappa, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [3, 8, 512])
@pytest.mark.parametrize("kappa", [0.01, 3.0, 1e3])
def test_the_power_spherical_density_is_the_papers(dim, kappa):
    d = make(PowerSpherical, dim, kappa)
    value = normalize(d.loc + torch.randn(20, dim, dtype=DOUBLE) / math.sqrt(dim), dim=-1)
    alpha, beta = (dim - 1) / 2 + kappa, (dim - 1) / 2
    log_normalizer = (
        -(alpha + beta) * math.log(2) - beta * math.log(math.pi)
        - scipy.special.gammaln(alpha) + scipy.special.gammaln(alpha + beta)
    )  # fmt: skip
    expected = log_normalizer + kappa * np.log1p((value @ d.loc).numpy())
    np.testing.assert_allclose(d.log_prob(value), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [3, 8, 64, 2048])
@pytest.mark.parametrize("kappa", [1e-6, 1.0, 100.0, 1e6, 1e8])
def test_power_spherical_integrates_to_one(dim, kappa):
    """Quadrature in the logit of the distance to the location, where the peak is never narrow."""
    logit = torch.linspace(-50, 30, 4001, dtype=DOUBLE)
    distance = torch.sigmoid(logit)
    d = make(PowerSpherical, dim, kappa)
    tangent = normalize(torch.randn(dim, dtype=DOUBLE), dim=0)
    tangent = normalize(tangent - (tangent @ d.loc) * d.loc, dim=0)
    sine = 2 * (distance * torch.sigmoid(-logit)).sqrt()
    value = (1 - 2 * distance)[:, None] * d.loc + sine[:, None] * tangent
    # Surface element: area(S^{D−2}) sin^{D−3}θ d cos θ, with d cos θ = sin²θ/2 d logit.
    log_integrand = d.log_prob(value) + log_area(dim - 1) + (dim - 1) * sine.log() - math.log(2)
    assert torch.trapezoid(log_integrand.exp(), logit).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dim", [3, 512])
def test_a_concentrated_law_is_the_von_mises_fisher_of_the_same_scale(dim):
    loc, scale = torch.eye(dim, dtype=DOUBLE)[0], 1e-3
    other = VonMisesFisher(loc, scale)
    value = other.sample((50,))
    difference = PowerSpherical(loc, scale).log_prob(value) - other.log_prob(value)
    assert difference.abs().max().item() < 3 * (dim * scale) ** 2


def test_density_vanishes_at_the_antipode():
    d = make(PowerSpherical, 8, 10.0)
    assert d.log_prob(-d.loc).item() < -300
    assert torch.isfinite(d.log_prob(-d.loc))


# ------------------------------------------------------------------------------------- the samples


@pytest.mark.parametrize("dim", [3, 512])
def test_scale_is_the_standard_deviation_along_a_tangent(dim):
    torch.manual_seed(0)
    scale = 0.02 * (torch.rand(dim, dtype=DOUBLE) + 0.5) / math.sqrt(dim)
    loc, square = torch.eye(dim, dtype=DOUBLE)[0], scale.square().mean()
    d = VonMisesFisher(loc, scale)
    assert d.concentration.item() == pytest.approx(1 / square.item())
    spread = d.sample((4000,))[:, 1:].square().mean().item()
    assert spread == pytest.approx(square.item(), rel=0.05)
    again = VonMisesFisher(loc, concentration=d.concentration)
    torch.testing.assert_close(again.scale.square().mean(), square)


def distance_cdf(law, dim, kappa):
    """Distribution function of (1 − u·m)/2: a Beta law, or by quadrature in its logit."""
    if law is PowerSpherical:
        return scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2 + kappa).cdf
    logit = np.linspace(-60, 30, 400_001)
    x = scipy.special.expit(logit)
    log_density = (dim - 1) / 2 * (np.log(x) + scipy.special.log_expit(-logit)) - 2 * kappa * x
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    return lambda y: np.interp(scipy.special.logit(y), logit, cumulative / cumulative[-1])


@both
@pytest.mark.parametrize("dim", [3, 10, 2048])
@pytest.mark.parametrize("kappa", [1e-3, 5.0, 1e3, 1e6])
def test_samples_follow_the_density(law, dim, kappa):
    torch.manual_seed(1)
    d = make(law, dim, kappa)
    samples = d.sample((2000,))
    assert d.support.check(samples).all()
    distance = (samples - d.loc).square().sum(-1) / 4
    assert scipy.stats.kstest(distance.numpy(), distance_cdf(law, dim, kappa)).pvalue > 1e-3
    # Uniform across the location: the angle in any plane orthogonal to it.
    plane = torch.linalg.qr(torch.stack([d.loc, *torch.randn(2, dim, dtype=DOUBLE)], 1)).Q[:, 1:]
    angle = torch.atan2(*(samples @ plane).T).numpy()
    assert scipy.stats.kstest(angle / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3


def test_single_precision_resolves_a_concentrated_law():
    torch.manual_seed(2)
    d = make(VonMisesFisher, 16, 1e6, dtype=torch.float32)
    samples = d.sample((2000,))
    distance = ((samples - d.loc).square().sum(-1) / 4).double().numpy()
    assert d.support.check(samples).all()
    assert scipy.stats.kstest(distance, distance_cdf(VonMisesFisher, 16, 1e6)).pvalue > 1e-3


# ------------------------------------------------------------------------ moments and divergences


@both
@pytest.mark.parametrize(("dim", "kappa"), [(3, 0.1), (8, 1.0), (50, 30.0), (8, 1e6)])
def test_variance_is_that_of_draws(law, dim, kappa):
    torch.manual_seed(0)
    d = law(normalize(torch.randn(dim).double(), dim=-1), concentration=kappa)
    torch.testing.assert_close(d.variance, d.sample((200_000,)).var(0), rtol=0.03, atol=0)
    total = d.variance.sum() + d.mean.square().sum()  # of a unit vector
    torch.testing.assert_close(total, torch.ones_like(total))


@both
@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize("kappa", [0.5, 40.0])
def test_entropy_mean_and_divergences_agree_with_monte_carlo(law, dim, kappa):
    torch.manual_seed(3)
    p = make(law, dim, kappa)
    samples = p.sample((40_000,))
    log_prob, cosine = p.log_prob(samples), samples @ p.loc
    pairs = [
        (-p.entropy(), log_prob),
        (p.mean @ p.loc, cosine),
        (kl_divergence(p, SphericalUniform(dim)), log_prob + log_area(dim)),
    ]
    if law is VonMisesFisher:
        others = [make(law, dim, 3.0, seed=1), make(law, dim, 200.0, seed=0)]
        pairs += [(kl_divergence(p, q), log_prob - q.log_prob(samples)) for q in others]
        assert kl_divergence(p, p).item() == pytest.approx(0, abs=1e-12)
    for closed, draws in pairs:
        error = draws.std().item() / math.sqrt(len(samples))
        assert abs(closed.item() - draws.mean().item()) < 4 * error


@both
@pytest.mark.parametrize("dim", [3, 512])
def test_divergence_from_uniform_keeps_its_precision(law, dim):
    """It grows with κ, its gradient is finite throughout; of von Mises–Fisher κ²/2D towards 0."""
    kappa = torch.tensor([10.0**e for e in range(-6, 9)], dtype=DOUBLE, requires_grad=True)
    d = law(torch.eye(dim, dtype=DOUBLE)[0], concentration=kappa)
    kl = kl_divergence(d, SphericalUniform(dim))
    assert law is PowerSpherical or kl[2].item() == pytest.approx(1e-8 / (2 * dim), rel=1e-4)
    assert (kl.diff() > 0).all()
    (gradient,) = torch.autograd.grad(kl.sum(), kappa)
    assert (gradient > 0).all()


@both
def test_derivatives_match_finite_differences(law):
    torch.manual_seed(4)
    m, u, n = (torch.randn(3, 5, dtype=DOUBLE, requires_grad=True) for _ in range(3))
    scale = (torch.rand(3, 5, dtype=DOUBLE) + 0.2).requires_grad_()

    def values(m, u, n, scale):
        p = law(normalize(m, dim=-1), scale)
        q = VonMisesFisher(normalize(n, dim=-1), 0.3) if law is VonMisesFisher else None
        divergence = kl_divergence(p, q) if q else (n.sum(),)
        return p.log_prob(normalize(u, dim=-1)), p.entropy(), p.mean, *divergence

    assert torch.autograd.gradcheck(values, (m, u, n, scale), fast_mode=True)
    assert torch.autograd.gradgradcheck(values, (m, u, n, scale), fast_mode=True)


def test_pathwise_gradients_are_those_of_the_expectation():
    """Of E[u·a], known in closed form, by location and concentration."""
    torch.manual_seed(5)
    a = torch.tensor([0.3, -1.0, 0.5, 0.2, 0.9], dtype=DOUBLE)
    m = torch.randn(5, dtype=DOUBLE, requires_grad=True)
    kappa = torch.tensor(4.0, dtype=DOUBLE, requires_grad=True)

    def law():
        return PowerSpherical(normalize(m, dim=0), concentration=kappa)

    closed = torch.autograd.grad(law().mean @ a, (m, kappa))
    batches = 20  # for the error of the gradient
    estimates = [
        torch.autograd.grad((law().rsample((2000,)) @ a).mean(), (m, kappa)) for _ in range(batches)
    ]
    for expected, estimate in zip(closed, zip(*estimates, strict=True), strict=True):
        stacked = torch.stack(estimate)
        error = stacked.std(0) / math.sqrt(batches)
        assert ((stacked.mean(0) - expected).abs() < 4.5 * error).all()
        assert (error < 0.05 * closed[0].norm()).all()


# -------------------------------------------------------------------------- shapes and bad input


def test_expand_keeps_the_class_and_the_parameters():
    d = VonMisesFisher(torch.eye(4)[:2], concentration=torch.tensor([2.0, 3.0]))
    expanded = d.expand((5, 2))
    assert type(expanded) is VonMisesFisher
    torch.testing.assert_close(expanded.concentration[3], d.concentration)
    torch.testing.assert_close(expanded.scale[3], d.scale)
    assert VonMisesFisher.infer_shapes(loc=(2, 4), concentration=(5, 1)) == ((5, 2), (4,))
    assert kl_divergence(expanded, SphericalUniform(4)).shape == (5, 2)
    assert kl_divergence(d, SphericalUniform(4, (6, 1))).shape == (6, 2)
    assert kl_divergence(d, expanded).shape == (5, 2)
    torch.testing.assert_close(expanded.expand((7, 5, 2)).concentration[6, 3], d.concentration)


def test_one_law_serves_several_backward_passes():
    scale = torch.full((4,), 0.5, requires_grad=True)
    d = VonMisesFisher(torch.eye(4)[0], scale).expand((3,))
    gradients = [torch.autograd.grad(d.log_prob(torch.eye(4)[1]).sum(), scale)[0] for _ in range(2)]
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "{} takes either scale or concentration, got neither"),
        ({"scale": 1.0, "concentration": 1.0}, "either scale or concentration, got both"),
        ({"concentration": -1.0}, "parameter concentration"),
        ({"concentration": float("inf")}, "parameter concentration"),
    ],
)
def test_bad_concentrations_are_named(law, arguments, message):
    with pytest.raises(ValueError, match=message.format(law.__name__)):
        law(torch.eye(4)[0], **arguments, validate_args=True)


@both
def test_scale_and_concentration_are_each_others_inverse(law):
    d = law(torch.eye(4)[0], 0.5)
    assert law is VonMisesFisher or d.concentration.item() == 8.0
    torch.testing.assert_close(law(d.loc, concentration=d.concentration).scale, d.scale)


def test_divergence_between_spheres_is_refused():
    p = VonMisesFisher(torch.eye(4)[0], 1.0)
    for q in (SphericalUniform(3), VonMisesFisher(torch.eye(3)[0], 1.0)):
        with pytest.raises(ValueError, match="in 4 and in 3 dimensions"):
            kl_divergence(p, q)
