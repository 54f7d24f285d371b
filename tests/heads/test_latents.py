import numpy as np
import pytest
import torch
from pyro.distributions import Independent, Normal

from vje_pyro.errors import NonFiniteError
from vje_pyro.heads.latents import as_latents

LOC, SCALE = np.arange(6.0).reshape(3, 2), np.full((3, 2), 0.5)


@pytest.mark.parametrize(
    "X",
    [
        (LOC, SCALE),
        (torch.tensor(LOC, requires_grad=True), torch.tensor(SCALE)),
        Independent(Normal(torch.tensor(LOC), torch.tensor(SCALE)), 1),
    ],
    ids=["arrays", "tensors", "distribution"],
)
def test_posteriors_by_array_tensor_and_distribution(X):
    latents = as_latents(X)
    assert latents.loc.tolist() == LOC.tolist()
    assert latents.variance.tolist() == (SCALE**2).tolist()
    assert len(latents[np.array([True, False, True])]) == 2


def test_points_and_scales_of_zero_are_points():
    for X in (LOC, LOC.astype(np.float32), (LOC, 0 * SCALE)):
        latents = as_latents(X)
        assert latents.variance is None
        assert latents.loc.dtype == np.float64
        assert latents.draw(np.random.default_rng(0)) is latents.loc


def test_draws_have_the_moments():
    latents, rng = as_latents((LOC, SCALE)), np.random.default_rng(0)
    draws = np.stack([latents.draw(rng) for _ in range(4000)])
    assert draws.mean(0) == pytest.approx(LOC, abs=0.05)
    assert draws.std(0) == pytest.approx(SCALE, rel=0.05)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (LOC[0], ValueError, r"points must be a matrix \(N, D\) with images, got shape \(2,\)"),
        (LOC[:0], ValueError, r"got shape \(0, 2\)"),
        ((LOC, SCALE[:2]), ValueError, r"loc has shape \(3, 2\), but scale \(2, 2\)"),
        ((LOC, -SCALE), ValueError, "standard deviation, got -0.5"),
        ((LOC, SCALE, SCALE), ValueError, "tuple of 3"),
        (np.where(LOC == 3, np.nan, LOC), NonFiniteError, "1 of 3 images .* first is image 1"),
        ((LOC, np.where(LOC > 3, np.inf, SCALE)), NonFiniteError, "scale: 1 of 3 .* image 2"),
    ],
)
def test_bad_input(X, error, message):
    with pytest.raises(error, match=message):
        as_latents(X)
