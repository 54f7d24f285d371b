import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, SphericalUniform, VonMisesFisher

DOUBLE = torch.float64


def make(dim, concentration, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    loc = normalize(torch.randn(dim, dtype=DOUBLE, generator=generator), dim=0).to(dtype)
    return PowerSpherical(loc, concentration=torch.as_tensor(concentration, dtype=dtype))


def paper_log_prob(cosine, dim, kappa):
    """The density as the paper writes it, with SciPy's Gamma function."""
    alpha, beta = (dim - 1) / 2 + kappa, (dim - 1) / 2
    log_normalizer = (
        -(alpha + beta) * math.log(2) - beta * math.log(math.pi)
        - scipy.special.gammaln(alpha) + scipy.special.gammaln(alpha + beta)
    )  # fmt: skip
    return log_normalizer + kappa * np.log1p(cosine)


def log_area(dim):
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


@pytest.mark.parametrize("dim", [3, 8, 512])
@pytest.mark.parametrize("kappa", [0.01, 3.0, 1e3])
def test_log_prob_is_the_papers(dim, kappa):
    d = make(dim, kappa)
    value = normalize(d.loc + torch.randn(20, dim, dtype=DOUBLE) / math.sqrt(dim), dim=-1)
    expected = paper_log_prob((value @ d.loc).numpy(), dim, kappa)
    np.testing.assert_allclose(d.log_prob(value), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [3, 8, 64, 2048])
@pytest.mark.parametrize("kappa", [1e-6, 1.0, 100.0, 1e6, 1e8])
def test_integrates_to_one(dim, kappa):
    """Quadrature in the logit of the distance to the location, where the peak is never narrow."""
    logit = torch.linspace(-50, 30, 4001, dtype=DOUBLE)
    distance = torch.sigmoid(logit)
    d = make(dim, kappa)
    tangent = normalize(torch.randn(dim, dtype=DOUBLE), dim=0)
    tangent = normalize(tangent - (tangent @ d.loc) * d.loc, dim=0)
    sine = 2 * (distance * torch.sigmoid(-logit)).sqrt()
    value = (1 - 2 * distance)[:, None] * d.loc + sine[:, None] * tangent
    # Surface element: area(S^{D−2}) sin^{D−3}θ d cos θ, with d cos θ = sin²θ/2 d logit.
    log_integrand = d.log_prob(value) + log_area(dim - 1) + (dim - 1) * sine.log() - math.log(2)
    mass = torch.trapezoid(log_integrand.exp(), logit).item()
    assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dim", [3, 512])
def test_a_concentrated_law_is_the_von_mises_fisher_of_the_same_scale(dim):
    loc = torch.eye(dim, dtype=DOUBLE)[0]
    scale = 1e-3
    value = VonMisesFisher(loc, scale).sample((50,))
    difference = PowerSpherical(loc, scale).log_prob(value) - VonMisesFisher(loc, scale).log_prob(
        value
    )
    assert difference.abs().max().item() < 3 * (dim * scale) ** 2


@pytest.mark.parametrize("dim", [3, 10, 2048])
@pytest.mark.parametrize("kappa", [1e-3, 5.0, 1e3, 1e6])
def test_samples_follow_the_density(dim, kappa):
    torch.manual_seed(1)
    d = make(dim, kappa)
    samples = d.sample((2000,))
    assert d.support.check(samples).all()
    distance = (samples - d.loc).square().sum(-1) / 4
    law = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2 + kappa)
    assert scipy.stats.kstest(distance.numpy(), law.cdf).pvalue > 1e-3
    plane = torch.linalg.qr(torch.stack([d.loc, *torch.randn(2, dim, dtype=DOUBLE)], 1)).Q[:, 1:]
    angle = torch.atan2(*(samples @ plane).T).numpy()
    assert scipy.stats.kstest(angle / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize("kappa", [0.5, 40.0])
def test_entropy_mean_and_divergence_agree_with_monte_carlo(dim, kappa):
    torch.manual_seed(3)
    d = make(dim, kappa)
    samples = d.sample((40_000,))
    log_prob = d.log_prob(samples)
    error = log_prob.std().item() / math.sqrt(len(samples))
    assert abs(d.entropy().item() + log_prob.mean().item()) < 4 * error
    kl = kl_divergence(d, SphericalUniform(dim)).item()
    assert abs(kl - log_prob.mean().item() - log_area(dim)) < 4 * error
    cosine = samples @ d.loc
    error = cosine.std().item() / math.sqrt(len(samples))
    assert abs((d.mean @ d.loc).item() - cosine.mean().item()) < 4 * error


@pytest.mark.parametrize("dim", [3, 512])
def test_divergence_from_uniform_keeps_its_precision(dim):
    kappa = torch.tensor([10.0**e for e in range(-6, 9)], dtype=DOUBLE, requires_grad=True)
    d = PowerSpherical(torch.eye(dim, dtype=DOUBLE)[0], concentration=kappa)
    kl = kl_divergence(d, SphericalUniform(dim))
    assert (kl.diff() > 0).all()
    (gradient,) = torch.autograd.grad(kl.sum(), kappa)
    assert (gradient > 0).all()


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


def test_density_vanishes_at_the_antipode():
    d = make(8, 10.0)
    assert d.log_prob(-d.loc).item() < -300
    assert torch.isfinite(d.log_prob(-d.loc))


def test_derivatives_match_finite_differences():
    torch.manual_seed(4)
    m, u = (torch.randn(3, 5, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    scale = (torch.rand(3, 5, dtype=DOUBLE) + 0.2).requires_grad_()

    def values(m, u, scale):
        d = PowerSpherical(normalize(m, dim=-1), scale)
        return d.log_prob(normalize(u, dim=-1)), d.entropy(), d.mean

    assert torch.autograd.gradcheck(values, (m, u, scale), fast_mode=True)
    assert torch.autograd.gradgradcheck(values, (m, u, scale), fast_mode=True)


def test_exactly_one_of_scale_and_concentration():
    with pytest.raises(ValueError, match="PowerSpherical takes either scale or concentration"):
        PowerSpherical(torch.eye(4)[0])
    d = PowerSpherical(torch.eye(4)[0], 0.5)
    assert d.concentration.item() == 8.0
    torch.testing.assert_close(PowerSpherical(d.loc, concentration=8.0).scale, d.scale)
