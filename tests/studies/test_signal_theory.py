"""Theory of the posterior's signal, against grids and against the density itself."""

import numpy as np
import pytest
import torch

from studies.signal_theory import free_signal, log_density, log_subdensity, shared_optimum
from vje_pyro.distributions import ProjectedNormal, SphericalStudentT

SIGNALS = np.linspace(0, 0.999, 2000)


def kl(mean, scale):
    return (mean**2 + scale**2 - 1) / 2 - np.log(scale)


@pytest.mark.parametrize("beta", [0.05, 0.15, 0.3, 1.0])
def test_with_a_free_scale_the_formula_is_the_maximum_over_signal_and_scale(beta):
    scales = np.geomspace(0.05, 1e3, 400)
    value = [
        max(log_density(0.5 * a, s**2) for s in scales) + beta / 2 * np.log(1 - a**2)
        for a in SIGNALS[::20]
    ]
    best = SIGNALS[::20][int(np.argmax(value))]
    assert best == pytest.approx(float(free_signal(beta, 0.5)), abs=0.06)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_with_the_shared_scale_it_is_the_maximum_over_a_grid(beta):
    means, scales = np.meshgrid(np.geomspace(0.02, 4, 250), np.geomspace(0.3, 2.5, 250))
    density = np.vectorize(log_density)(0.5 * means / np.hypot(means, scales), scales**2)
    best = np.argmax(density - beta * kl(means, scales))
    mean, scale = means.flat[best], scales.flat[best]
    assert shared_optimum(beta, 0.5).signal == pytest.approx(mean / np.hypot(mean, scale), abs=0.01)


def test_the_log_density_is_that_of_a_projected_normal_in_many_dimensions():
    dim, variance = 20_000, 1.3
    loc = torch.zeros(dim, dtype=torch.double)
    loc[0] = 1.0
    scale = torch.full((dim,), (variance / dim) ** 0.5, dtype=torch.double)

    def at(cosine):
        target = torch.zeros(dim, dtype=torch.double)
        target[0], target[1] = cosine, (1 - cosine**2) ** 0.5
        return ProjectedNormal(loc, scale).log_prob(target).item() / dim

    expected = log_density(0.6, variance) - log_density(0.1, variance)
    assert at(0.6) - at(0.1) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("df_per_dim", [1 / 256, 1.0, 4.0])
def test_the_log_subdensity_is_that_of_the_student_t_in_many_dimensions(df_per_dim):
    dim, variance = 2_000, 0.9
    loc = torch.eye(dim, dtype=torch.double)[0]
    law = SphericalStudentT(loc, (variance / dim) ** 0.5, df=df_per_dim * dim)

    def at(cosine):
        target = torch.zeros(dim, dtype=torch.double)
        target[0], target[1] = cosine, (1 - cosine**2) ** 0.5
        return law.log_prob(target).item() / dim

    expected = (log_subdensity(c, variance, df_per_dim) for c in (0.6, 0.1))
    assert at(0.6) - at(0.1) == pytest.approx(next(expected) - next(expected), abs=1e-3)


def test_degrees_of_freedom_move_the_length_of_z_and_not_its_signal():
    optima = [shared_optimum(1.0, 0.5, k) for k in (1 / 256, 1 / 16, 1.0, 4.0)]
    signals, moments = zip(*optima, strict=True)
    assert max(signals) - min(signals) < 1e-3
    assert list(moments) == sorted(moments)
    assert moments[0] == pytest.approx(1, abs=0.01)
    assert moments[-1] > 1.25
