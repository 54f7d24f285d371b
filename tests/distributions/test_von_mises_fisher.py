import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions import SphericalUniform, VonMisesFisher

DOUBLE = torch.float64


def make(dim, concentration, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    loc = normalize(torch.randn(dim, dtype=DOUBLE, generator=generator), dim=0).to(dtype)
    return VonMisesFisher(loc, concentration=torch.as_tensor(concentration, dtype=dtype))


def exact_peak(dim, kappa):
    """Log density at the mode, in 50 digits."""
    with mpmath.workdps(50):
        order, kappa = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa)
        log_bessel = mpmath.log(mpmath.besseli(order, kappa))
        return kappa + order * mpmath.log(kappa) - mpmath.log(2 * mpmath.pi) * dim / 2 - log_bessel


@pytest.mark.parametrize("dim", [3, 4, 35, 512, 2047, 2048])
def test_normalizer_agrees_with_mpmath(dim):
    for exponent in range(-8, 9):
        kappa = 10.0**exponent
        expected = exact_peak(dim, kappa)
        d = make(dim, kappa)
        peak = d.log_prob(d.mode).item()
        assert peak == pytest.approx(float(expected), rel=1e-8)
        assert peak - kappa == pytest.approx(float(expected - kappa), rel=1e-8)
        single = make(dim, kappa, dtype=torch.float32)
        expected = exact_peak(dim, single.concentration.item())
        assert single.log_prob(single.mode).item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dim", [3, 4, 7, 16, 64])
@pytest.mark.parametrize("kappa", [0.01, 1.0, 20.0, 500.0])
def test_log_prob_and_entropy_are_scipys(dim, kappa):
    d = make(dim, kappa)
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


@pytest.mark.parametrize("dim", [3, 512])
def test_scale_is_the_standard_deviation_along_a_tangent(dim):
    torch.manual_seed(0)
    scale = 0.02 * (torch.rand(dim, dtype=DOUBLE) + 0.5) / math.sqrt(dim)
    loc = torch.eye(dim, dtype=DOUBLE)[0]
    d = VonMisesFisher(loc, scale)
    assert d.concentration.item() == pytest.approx(1 / scale.square().mean().item())
    spread = d.sample((4000,))[:, 1:].square().mean().item()
    assert spread == pytest.approx(scale.square().mean().item(), rel=0.05)
    torch.testing.assert_close(
        VonMisesFisher(loc, concentration=d.concentration).scale.square().mean(),
        scale.square().mean(),
    )


def distance_cdf(dim, kappa):
    """Distribution function of (1 − u·m)/2, by quadrature in its logit."""
    logit = np.linspace(-60, 30, 400_001)
    x = scipy.special.expit(logit)
    log_density = (dim - 1) / 2 * (np.log(x) + scipy.special.log_expit(-logit)) - 2 * kappa * x
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    return lambda y: np.interp(scipy.special.logit(y), logit, cumulative / cumulative[-1])


@pytest.mark.parametrize("dim", [3, 10, 2048])
@pytest.mark.parametrize("kappa", [1e-3, 5.0, 1e3, 1e6])
def test_samples_follow_the_density(dim, kappa):
    torch.manual_seed(1)
    d = make(dim, kappa)
    samples = d.sample((2000,))
    assert d.support.check(samples).all()
    distance = (samples - d.loc).square().sum(-1) / 4
    assert scipy.stats.kstest(distance.numpy(), distance_cdf(dim, kappa)).pvalue > 1e-3
    # Uniform across the location: the angle in any plane orthogonal to it.
    plane = torch.linalg.qr(torch.stack([d.loc, *torch.randn(2, dim, dtype=DOUBLE)], 1)).Q[:, 1:]
    angle = torch.atan2(*(samples @ plane).T).numpy()
    assert scipy.stats.kstest(angle / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3


def test_single_precision_resolves_a_concentrated_law():
    torch.manual_seed(2)
    d = make(16, 1e6, dtype=torch.float32)
    samples = d.sample((2000,))
    distance = (samples - d.loc).square().sum(-1) / 4
    assert d.support.check(samples).all()
    assert scipy.stats.kstest(distance.double().numpy(), distance_cdf(16, 1e6)).pvalue > 1e-3


@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize("kappa", [0.5, 40.0])
def test_divergences_agree_with_monte_carlo(dim, kappa):
    torch.manual_seed(3)
    p = make(dim, kappa)
    others = [SphericalUniform(dim), make(dim, 3.0, seed=1), make(dim, 200.0, seed=0)]
    samples = p.sample((40_000,))
    for q in others:
        log_ratio = p.log_prob(samples) - q.log_prob(samples)
        error = log_ratio.std().item() / math.sqrt(len(samples))
        assert abs(kl_divergence(p, q).item() - log_ratio.mean().item()) < 4 * error
    assert kl_divergence(p, p).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dim", [3, 512])
def test_divergence_from_uniform_keeps_its_precision(dim):
    """Towards κ = 0 it is κ²/2D; it grows with κ, and its gradient is finite throughout."""
    kappa = torch.tensor([10.0**e for e in range(-6, 9)], dtype=DOUBLE, requires_grad=True)
    d = VonMisesFisher(torch.eye(dim, dtype=DOUBLE)[0], concentration=kappa)
    kl = kl_divergence(d, SphericalUniform(dim))
    assert kl[2].item() == pytest.approx(1e-8 / (2 * dim), rel=1e-4)
    assert (kl.diff() > 0).all()
    (gradient,) = torch.autograd.grad(kl.sum(), kappa)
    assert (gradient > 0).all()


def test_derivatives_match_finite_differences():
    torch.manual_seed(4)
    m, u, n = (torch.randn(3, 5, dtype=DOUBLE, requires_grad=True) for _ in range(3))
    scale = (torch.rand(3, 5, dtype=DOUBLE) + 0.2).requires_grad_()

    def values(m, u, n, scale):
        p = VonMisesFisher(normalize(m, dim=-1), scale)
        q = VonMisesFisher(normalize(n, dim=-1), 0.3)
        return p.log_prob(normalize(u, dim=-1)), p.entropy(), p.mean, kl_divergence(p, q)

    assert torch.autograd.gradcheck(values, (m, u, n, scale), fast_mode=True)
    assert torch.autograd.gradgradcheck(values, (m, u, n, scale), fast_mode=True)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either scale or concentration, got neither"),
        ({"scale": 1.0, "concentration": 1.0}, "either scale or concentration, got both"),
        ({"concentration": -1.0}, "parameter concentration"),
        ({"concentration": float("inf")}, "parameter concentration"),
    ],
)
def test_bad_concentrations_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VonMisesFisher(torch.eye(4)[0], **arguments, validate_args=True)


def test_divergence_between_spheres_is_refused():
    p = VonMisesFisher(torch.eye(4)[0], 1.0)
    for q in (SphericalUniform(3), VonMisesFisher(torch.eye(3)[0], 1.0)):
        with pytest.raises(ValueError, match="in 4 and in 3 dimensions"):
            kl_divergence(p, q)
