"""The two projected distributions against independent values."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.nn.functional import normalize

from vje_pyro.distributions import ProjectedNormal, ProjectedStudentT

DOUBLE = torch.float64


def by_quadrature(log_density, u, dim):
    """Log of the integral of the density of y over the ray through u, with SciPy."""

    def log_integrand(x):
        return log_density(np.exp(x) * u) + dim * x

    grid = np.linspace(-15, 40, 4001)
    peak = grid[np.argmax([log_integrand(x) for x in grid])]
    top = log_integrand(peak)
    # Piecewise, so that neither a narrow peak nor a long tail is missed.
    ends = [peak - 10, peak - 1, peak - 0.1, peak - 0.01, peak, peak + 0.01, peak + 0.1, peak + 1,
            peak + 10, peak + 120]  # fmt: skip
    parts = [
        scipy.integrate.quad(lambda x: np.exp(log_integrand(x) - top), a, b, limit=500)[0]
        for a, b in itertools.pairwise(ends)
    ]
    return top + math.log(sum(parts))


@pytest.mark.parametrize("dim", [3, 10, 100, 2048])
@pytest.mark.parametrize("scale", [0.05, 5.0])
def test_densities_are_those_of_scipys_quadrature(dim, scale):
    rng = np.random.default_rng(dim)
    m = rng.standard_normal(dim)
    m /= np.linalg.norm(m)
    tau = scale / math.sqrt(dim) * np.exp(0.3 * rng.standard_normal(dim))
    for far in (0.02, 1.0):
        u = m + far * rng.standard_normal(dim) / math.sqrt(dim)
        u /= np.linalg.norm(u)
        tensors = [torch.from_numpy(x) for x in (m, tau)]

        def normal(y, m=m, tau=tau):
            return scipy.stats.norm.logpdf(y, m, tau).sum()

        got = ProjectedNormal(*tensors).log_prob(torch.from_numpy(u)).item()
        assert got == pytest.approx(by_quadrature(normal, u, dim), rel=1e-7, abs=1e-7)
        for df in (0.5, 3.0):
            constant = math.lgamma((df + dim) / 2) - math.lgamma(df / 2)
            constant -= dim / 2 * math.log(df * math.pi) + np.log(tau).sum()

            def student(y, m=m, tau=tau, df=df, constant=constant):
                return constant - (df + dim) / 2 * np.log1p((((y - m) / tau) ** 2).sum() / df)

            got = ProjectedStudentT(*tensors, df).log_prob(torch.from_numpy(u)).item()
            assert got == pytest.approx(by_quadrature(student, u, dim), rel=1e-7, abs=1e-7)


def test_the_normal_is_pyros_in_three_dimensions():
    torch.manual_seed(0)
    loc = normalize(torch.randn(3, dtype=DOUBLE), dim=0)
    u = normalize(torch.randn(50, 3, dtype=DOUBLE), dim=-1)
    # A norm of 1/τ and unit scale is a norm of 1 and scale τ.
    expected = dist.ProjectedNormal(loc / 0.4).log_prob(u)
    torch.testing.assert_close(ProjectedNormal(loc, 0.4).log_prob(u), expected, rtol=1e-6, atol=0)


def test_many_degrees_of_freedom_approach_the_normal():
    torch.manual_seed(1)
    loc = normalize(torch.randn(16, dtype=DOUBLE), dim=0)
    scale = 0.2 * torch.exp(torch.randn(16, dtype=DOUBLE))
    u = normalize(loc + 0.1 * torch.randn(20, 16, dtype=DOUBLE), dim=-1)
    limit = ProjectedNormal(loc, scale).log_prob(u)
    torch.testing.assert_close(
        ProjectedStudentT(loc, scale, 1e8).log_prob(u), limit, rtol=1e-5, atol=1e-5
    )


def test_zero_location_in_the_limit_is_uniform_for_equal_scales():
    loc = torch.eye(64, dtype=DOUBLE)[0]
    log_area = math.log(2) + 32 * math.log(math.pi) - math.lgamma(32)
    for law in (ProjectedNormal(loc, 1e6), ProjectedStudentT(loc, 1e6, 2.0)):
        assert law.log_prob(-loc).item() == pytest.approx(-log_area, abs=1e-4)
