from dataclasses import replace

import pyro
import pytest
import torch
from torch.nn.functional import normalize

from vje_pyro.diagnostics.predictive import (
    Replicates,
    angles,
    predictive_check,
    predictive_location,
    predictive_sites,
)
from vje_pyro.errors import VJEError
from vje_pyro.guides import DiagonalNormal


def calibrated(pairs, kind="posterior", seed=3):
    """The same check with observations that are one more draw of the model itself."""
    check = predictive_check(pairs, 101, seed=seed, kind=kind)
    return [
        Replicates(x.draws[0], x.draws[1:], x.images, x.unit)
        for x in (check.angle, check.radius)
        if x is not None
    ]


def test_draws_are_those_of_the_model(pairs):
    check = predictive_check(pairs, 50, seed=1)
    torch.manual_seed(1)
    z = pairs.posterior.sample((50,))
    u = pairs.method.direction(
        loc=normalize(z, dim=-1), scale=pairs.scale / pairs.method.reference_radius
    ).sample()
    r = pairs.method.radius(loc=z.norm(dim=-1)).sample()
    center = normalize(pairs.posterior.mean, dim=-1)
    expected = torch.rad2deg(torch.acos((u * center).sum(-1).double().clamp(-1, 1)))
    torch.testing.assert_close(check.angle.draws.double(), expected, rtol=1e-3, atol=0.05)
    torch.testing.assert_close(check.radius.draws, r)


def test_observations_and_images(pairs):
    check = predictive_check(pairs, 5)
    n = len(pairs)
    u = normalize(pairs.embeddings[1, 0], dim=-1)
    expected = torch.rad2deg(torch.acos(u @ predictive_location(pairs)[0]))
    torch.testing.assert_close(check.angle.observed[0], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(check.radius.observed[n], pairs.embeddings[0, 0].norm())
    assert check.angle.images.tolist() == [*range(n), *range(n)]
    assert check.angle.draws.shape == (5, 2 * n)


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_pit_is_uniform_under_the_model_itself(pairs, kind):
    for replicates in calibrated(pairs, kind):
        assert replicates.uniformity()["p_value"] > 0.01
        assert replicates.summary()["statistics"]["mean"]["p_value"] > 0.01


def test_pit_of_a_wrong_model_is_not_uniform(pairs):
    replicates, _ = calibrated(pairs)
    for draws in (0.5 * replicates.draws, replicates.draws + 30):
        assert replace(replicates, draws=draws).uniformity()["p_value"] < 1e-4


def test_ties_are_broken_at_random():
    observed = torch.zeros(2000)
    replicates = Replicates(observed, torch.zeros(9, 2000), torch.arange(1000).repeat(2), "degrees")
    assert replicates.uniformity()["p_value"] > 0.01
    assert replicates.pit.min() < 0.01
    assert replicates.pit.max() > 0.99


def test_the_test_takes_one_datum_of_an_image():
    # Two hundred copies of forty independent images are no more evidence than the forty.
    pit = torch.rand(40, generator=torch.Generator().manual_seed(5)).repeat(400)
    images = torch.arange(40).repeat(400)
    replicates = Replicates(pit, torch.linspace(0, 1, 1001)[:, None], images, "degrees")
    assert replicates.uniformity()["p_value"] > 0.01


def test_statistics_are_those_of_the_data_set():
    draws = torch.arange(12.0).reshape(3, 4)
    replicates = Replicates(draws[1], draws, torch.arange(2).repeat(2), "degrees")
    check = replicates.summary()["statistics"]["mean"]
    assert check["observed"] == 5.5
    assert check["value"] == 5.5
    assert check["p_value"] == 1.0
    far = replace(replicates, observed=draws[2] + 50).summary()["statistics"]["mean"]
    assert far["p_value"] == pytest.approx(2 / 4)  # 3 replicates can say no more


def test_a_shifted_observation_is_found(pairs):
    replicates, _ = calibrated(pairs)
    moved = replace(replicates, observed=replicates.observed + 40)
    assert moved.summary()["statistics"]["mean"]["p_value"] < 0.05
    assert moved.summary()["statistics"]["q50"]["p_value"] < 0.05


def test_the_prior_knows_nothing_of_the_direction(pairs):
    angle = predictive_check(pairs, 200, kind="prior").angle.draws
    assert abs(angle.mean() - 90) < 3
    assert predictive_check(pairs, 200).angle.draws.mean() < 80


def test_temperature_scales_the_deviation_of_z(pairs):
    # One seed gives the same noise at both temperatures, so the deviation is exactly halved.
    mean = pairs.posterior.mean
    deviations = []
    for temperature in (1.0, 0.5):
        torch.manual_seed(0)
        sites = predictive_sites(pairs, 20, temperature=temperature)
        deviations.append(sites["z"] - mean)
    torch.testing.assert_close(deviations[1], deviations[0] / 2, rtol=1e-4, atol=1e-5)
    cold = predictive_check(pairs, 100, temperature=0.1).angle.draws.median()
    assert cold < 0.6 * predictive_check(pairs, 100).angle.draws.median()


def test_a_model_without_a_radius(untrained_pairs):
    pairs = untrained_pairs(DiagonalNormal)
    pairs.method.radius = None
    check = predictive_check(pairs, 10)
    assert check.radius is None
    assert check.summary()["radius"] is None


def test_angles_at_the_ends():
    u = torch.tensor([0.0, 0.0, 1.0])
    tilted = torch.tensor([1e-4, 0.0, 1.0])
    torch.testing.assert_close(angles(tilted, u), torch.rad2deg(torch.tensor(1e-4)))
    torch.testing.assert_close(angles(-u, u), torch.tensor(180.0))


def test_a_model_without_directions_is_refused(conjugate_pairs):
    pairs = conjugate_pairs()

    def model(posterior, scale, target=None):
        with pyro.plate("data", len(scale), dim=-1):
            pyro.sample("z", pairs.method.prior_distribution())

    pairs.method.model = model
    with pytest.raises(VJEError, match="Conjugate has no site 'direction'"):
        predictive_check(pairs, 10)
