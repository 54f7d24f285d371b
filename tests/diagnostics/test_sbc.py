from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from vje_pyro.diagnostics import normalized_method, simulation_based_calibration
from vje_pyro.diagnostics._programs import log_density
from vje_pyro.diagnostics.sbc import SBC, _simulate
from vje_pyro.distributions import SphericalStudentT
from vje_pyro.errors import VJEError


def calibrate_guide(pairs, **kwargs):
    return simulation_based_calibration(pairs, "guide", num_simulations=400, **kwargs)


def test_the_exact_guide_is_calibrated(conjugate_pairs):
    for seed in range(3):
        result = calibrate_guide(conjugate_pairs(), seed=seed)
        assert result.calibrated
        assert result.p_values.min() > 0.005


@pytest.mark.parametrize(
    ("error", "fullest"),
    [({"widen": 0.6}, {0, 9}), ({"widen": 1.7}, {4, 5}), ({"shift": 0.5}, {0})],
    ids=["narrow", "wide", "biased"],
)
def test_a_wrong_guide_is_flagged_and_its_histogram_says_how(conjugate_pairs, error, fullest):
    result = calibrate_guide(conjugate_pairs(**error))
    assert not result.calibrated
    assert result.p_value < 1e-6
    coordinates = result.histogram[:, :3].sum(1)
    assert set(coordinates.topk(len(fullest)).indices.tolist()) == fullest


def test_nuts_on_a_conjugate_model_is_calibrated(conjugate_pairs):
    result = simulation_based_calibration(
        conjugate_pairs(), num_samples=48, num_chains=12, num_warmup=30, thin=2
    )
    assert result.calibrated
    assert result.divergences == 0
    assert result.quantities == ("z[0]", "z[1]", "z[2]", "norm", "log direction")


def test_a_density_that_is_not_its_samplers_is_flagged(conjugate_pairs):
    pairs = conjugate_pairs()
    generate = pairs.method.model

    class Wrong(type(pairs.method)):
        """Scores with less noise than it generates with."""

        def model(self, posterior, scale, target=None):
            self.noise = 0.8 if target is None else 0.5
            generate.__func__(self, posterior, scale, target)

    wrong = replace(pairs, method=Wrong(3, 0.8, 0.0, 1.0).eval())
    result = simulation_based_calibration(
        wrong, num_samples=48, num_chains=12, num_warmup=30, thin=2
    )
    assert not result.calibrated
    assert result.p_value < 1e-4


def test_nuts_on_vje_is_calibrated(pairs):
    result = simulation_based_calibration(
        pairs,
        num_samples=40,
        num_simulations=30,
        num_bins=5,
        num_chains=10,
        num_warmup=30,
        thin=2,
        max_tree_depth=5,
    )
    assert result.quantities[-3:] == ("norm", "log direction", "log radius")
    assert result.positions.shape == (30, 11)
    assert result.calibrated


@pytest.mark.slow
def test_nuts_on_vje_is_calibrated_over_many_simulations(pairs):
    result = simulation_based_calibration(pairs, num_simulations=400)
    assert result.calibrated
    assert result.divergences == 0


def test_the_guide_of_vje_is_judged_on_the_same_simulations(pairs):
    result = calibrate_guide(pairs, num_samples=50)
    assert result.positions.shape == (400, 11)
    assert result.r_hat_max is None
    again = calibrate_guide(pairs, num_samples=50)
    assert torch.equal(result.positions, again.positions)


def test_histogram_and_p_values():
    even = torch.arange(0.05, 1, 0.1, dtype=torch.float64).repeat(10)[:, None]
    positions = torch.cat([even, torch.zeros(100, 1), torch.ones(100, 1)], dim=1)
    result = SBC("guide", ("a", "b", "c"), positions, 99, 10)
    assert result.histogram.T.tolist() == [[10] * 10, [100] + [0] * 9, [0] * 9 + [100]]
    assert_close(result.p_values[0].item(), 1.0)
    assert result.p_values[1] < 1e-100
    assert result.p_value == pytest.approx(3 * result.p_values.min().item())
    one = replace(result, quantities=("a",), positions=even)
    assert one.calibrated


def test_the_normalised_twin(method):
    twin = normalized_method(method)
    unit = torch.eye(8)[0]
    for name, arguments in (
        ("direction", {"loc": unit, "scale": 0.3 * torch.ones(8)}),
        ("radius", {"loc": torch.tensor(1.0)}),
    ):
        law, normal = (getattr(m, name)(**arguments) for m in (method, twin))
        assert (law.normalized, normal.normalized) == (False, True)
        value = law.mode + 0.0
        assert normal.log_prob(value) > law.log_prob(value)
    assert normalized_method(twin) is twin


def test_simulations_follow_the_subdensity(pairs):
    pairs = pairs.double()
    method = pairs.method
    with torch.random.fork_rng():
        torch.manual_seed(0)
        truth, (posterior, scale, target) = _simulate(pairs, torch.zeros(1000, dtype=torch.long))
        # What it should be: prior and reference law, each pair weighted by what it lacks.
        z = method.prior_distribution().sample((1000,))
        norm = z.norm(dim=-1, keepdim=True)
        law = method.direction(loc=z / norm, scale=scale / method.reference_radius)
        u = law.sample()
        r = method.radius(loc=norm[:, 0]).sample()
    arguments = (posterior, scale, u * r[:, None])
    twin = normalized_method(method)
    weight = log_density(method.model, arguments, {"z": z}) - log_density(
        twin.model, arguments, {"z": z}
    )
    weight = weight.exp() / weight.exp().sum()
    cosine = torch.cosine_similarity(truth, target)
    expected = (weight * torch.cosine_similarity(z, u)).sum()
    assert_close(cosine.mean(), expected, rtol=0, atol=4 * (2 / 1000) ** 0.5 * cosine.std().item())
    plain = torch.cosine_similarity(z, u).mean()
    assert cosine.mean() > plain + 5 * cosine.std() / 1000**0.5  # it does make a difference


def test_a_subdensity_without_a_normalised_form_is_refused(method, monkeypatch):
    class Unnormalisable(SphericalStudentT):
        is_subdensity = True

        def __init__(self, loc, scale):
            super().__init__(loc, scale, df=1.0)

    monkeypatch.setattr(method, "direction", Unnormalisable)
    with pytest.raises(VJEError, match="direction of the VJE is a subdensity that cannot be"):
        normalized_method(method)


def test_a_method_without_radius(method, pairs, monkeypatch):
    monkeypatch.setattr(pairs.method, "radius", None)
    result = calibrate_guide(pairs, num_samples=10)
    assert result.quantities[-2:] == ("norm", "log direction")
