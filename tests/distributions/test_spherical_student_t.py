import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import logsumexp
from torch.nn.functional import normalize

from vje_pyro.distributions import SphericalNormal, SphericalStudentT

DOUBLE = torch.float64


def make(dim, scale=0.3, df=1.0, *, seed=0, dtype=DOUBLE, spread=1.0, **kwargs):
    """A law with unequal scales around ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    loc = normalize(torch.randn(dim, dtype=dtype, generator=generator), dim=-1)
    scales = scale * torch.exp(spread * (torch.rand(dim, dtype=dtype, generator=generator) - 0.5))
    return SphericalStudentT(loc, scales, df, **kwargs)


def explicit_log_prob(value, loc, scale, df):
    """The formula with an explicit basis of the tangent plane and dense matrices."""
    dim = len(loc) - 1
    basis = torch.linalg.svd(loc[None], full_matrices=True).Vh[1:].T
    precision = basis.T @ torch.diag(scale**-2) @ basis
    cosine = value @ loc
    tangent = value - cosine[:, None] * loc
    w = normalize(tangent, dim=-1) * (value - loc).norm(dim=-1, keepdim=True) @ basis
    quadratic = torch.einsum("ni,ij,nj->n", w, precision, w)
    return (
        math.lgamma((df + dim) / 2) - math.lgamma(df / 2) - dim / 2 * math.log(df * math.pi)
        + 0.5 * torch.logdet(precision) - (df + dim) / 2 * torch.log1p(quadratic / df)
    )  # fmt: skip


@pytest.mark.parametrize("dim", [3, 4, 16, 64])
@pytest.mark.parametrize("df", [0.5, 1.0, 10.0])
def test_log_prob_is_the_tangent_student_t(dim, df):
    d = make(dim, df=df)
    value = normalize(torch.randn(200, dim, dtype=DOUBLE), dim=-1)
    torch.testing.assert_close(
        d.log_prob(value), explicit_log_prob(value, d.loc, d.scale, df), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(("dim", "df"), [(3, 1.0), (3, 8.0), (5, 2.0)])
def test_samples_follow_the_reference(dim, df):
    """Chi-square of the tangent vector's squared radius and of its angle in a plane."""
    torch.manual_seed(3)
    d = SphericalStudentT(torch.eye(dim, dtype=DOUBLE)[0], 0.4, df, normalized=True)
    u = d.sample((20_000,))
    chord = (u - d.loc).norm(dim=-1)
    # ‖w‖²/(dim−1)/τ² of an isotropic Student-t is F distributed; here truncated to ‖w‖ ≤ 2.
    law = scipy.stats.f(dim - 1, df)
    cdf = law.cdf(chord.square().numpy() / (dim - 1) / 0.4**2) / law.cdf(4 / (dim - 1) / 0.4**2)
    assert scipy.stats.kstest(cdf, "uniform").pvalue > 1e-3
    angle = torch.atan2(u[:, 1], u[:, 2]).numpy()
    assert scipy.stats.kstest(angle / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_antipode_of_equal_scales_has_the_right_value(dtype):
    loc = normalize(torch.randn(64, dtype=dtype), dim=0)
    d = SphericalStudentT(loc, 0.1, 3.0)
    dim, expected_q = 63, 4 / 0.1**2
    kernel = -(3 + dim) / 2 * math.log1p(expected_q / 3)
    at_mode = d.log_prob(loc).item()
    assert d.log_prob(-loc).item() - at_mode == pytest.approx(kernel, rel=1e-4)


def test_many_degrees_of_freedom_approach_the_normal():
    d = make(16, 0.2, 1e7, normalized=True)
    limit = SphericalNormal(d.loc, d.scale, normalized=True)
    value = normalize(d.loc + 0.05 * torch.randn(20, 16, dtype=DOUBLE), dim=-1)
    torch.testing.assert_close(d.log_prob(value), limit.log_prob(value), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(d.mean, limit.mean, rtol=1e-5, atol=1e-6)


def test_a_hopeless_sampler_says_so():
    with pytest.raises(ValueError, match=r"one draw in .* largest scale, 50"):
        SphericalStudentT(torch.eye(64)[0], 50.0, 1.0).sample((3,))


@pytest.mark.parametrize("dim", [4, 64])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 3.0])
@pytest.mark.parametrize("df", [1.0, 30.0])
def test_mass_and_mean_of_equal_scales_are_one_integral(dim, scale, df):
    """Over t = log x/(1 − x), with x = ‖w‖²/4 = (1 − cos)/2 and ‖w‖²/τ²/(D−1) ~ F(D−1, ν)."""
    t = np.linspace(-40, 60, 10_001)
    log_x, log_rest = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    unit = (dim - 1) * scale**2
    log_law = scipy.stats.f.logpdf(4 * np.exp(log_x) / unit, dim - 1, df) + math.log(4 / unit)
    log_law = log_law + log_x + log_rest + math.log(t[1] - t[0])
    mass = logsumexp(log_law + (dim - 3) / 2 * log_rest)
    mean = 1 - 2 * math.exp(logsumexp(log_law + log_x) - logsumexp(log_law))
    d = SphericalStudentT(normalize(torch.ones(dim, dtype=DOUBLE), dim=0), scale, df)
    assert d.log_mass.item() == pytest.approx(mass, rel=1e-8, abs=1e-8)
    assert d.mean_resultant_length.item() == pytest.approx(mean, abs=1e-8)
    assert d.expand((2,)).mean.shape == (2, dim)


@pytest.mark.parametrize(("dim", "df"), [(4, 1.0), (16, 4.0)])
def test_mass_and_mean_of_unequal_scales_against_draws(dim, df):
    torch.manual_seed(7)
    d = make(dim, 0.3, df, spread=2.0)
    cosine = d.sample((100_000,)) @ d.loc
    share = ((1 + cosine) / 2) ** ((dim - 3) / 2)  # subdensity over reference, but for a constant
    mass = (d.log_mass - d.log_acceptance).exp().item()
    for expected, draws in ((mass, share), (d.mean_resultant_length.item(), cosine)):
        assert abs(draws.mean().item() - expected) < 4 * draws.std().item() / math.sqrt(len(draws))


def test_in_three_dimensions_the_missing_mass_is_the_tail():
    d = make(3, 0.6, 1.0)
    torch.testing.assert_close(d.log_mass, d.log_acceptance)
    assert make(8, normalized=True).log_mass.item() == 0


def test_shapes_are_inferred_from_names():
    shapes = SphericalStudentT.infer_shapes(loc=(4, 1, 5), scale=(5,), df=(3,))
    assert shapes == ((4, 3), (5,))
    torch.testing.assert_close(make(5).mode, make(5).loc)
