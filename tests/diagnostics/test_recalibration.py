import math
from dataclasses import replace

import pytest
import torch

from vje_pyro.diagnostics.coverage import expected_coverage
from vje_pyro.diagnostics.predictive import Replicates, predictive_sites
from vje_pyro.diagnostics.recalibration import (
    ResidualLaw,
    Temperature,
    crps,
    fit_temperature,
    minimum,
)


def simulated(pairs, temperature, num_images=300):
    """Pairs whose targets are drawn from the predictive distribution at a temperature."""
    torch.manual_seed(7)
    source = torch.randn(num_images, pairs.num_features)
    ids = torch.arange(num_images)
    data = replace(pairs, embeddings=source.expand(2, -1, -1), labels=ids * 0 - 1, indices=ids)
    sites = predictive_sites(data, 1, temperature=temperature)
    targets = sites["direction"][0] * sites["radius"][0][:, None]
    # Both orders must have the source as given and a drawn target: take the two apart.
    return _Drawn(data, targets)


class _Drawn:
    """Pairs with given targets: what the predictive checks read of pairs."""

    def __init__(self, pairs, target):
        self.pairs, self.target = pairs, target

    def __getattr__(self, name):
        return getattr(self.pairs, name)

    def arguments(self):
        return self.pairs.posterior, self.pairs.scale, self.target


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_the_scale_that_the_data_were_drawn_with_is_recovered(pairs, factor):
    data = simulated(pairs, factor)
    fitted = fit_temperature(data, "scale", num_samples=100)
    low, high = fitted.interval
    assert low <= fitted.value <= high
    assert fitted.value == pytest.approx(factor, rel=0.2)
    assert high / low < 1.6
    result = fitted.apply(data)
    for level in (0.5, 0.8, 0.95):
        assert result.after.at(level)["value"] == pytest.approx(level, abs=0.07)
    if factor != 1:
        assert result.crps_after.mean() < result.crps_before.mean()
        assert abs(result.before.at(0.5)["value"] - 0.5) > 0.15


def spreads(power, num_images, seed):
    """Draws of predicted spread m; angles that are wider with m to a power, with a skew noise."""
    generator = torch.Generator().manual_seed(seed)
    log_m = 0.4 * torch.randn(2 * num_images, generator=generator)
    noise = (0.5 * torch.randn(2 * num_images, generator=generator)).exp()
    draws = 60 * log_m.exp() * torch.linspace(0.5, 1.5, 101)[:, None]
    images = torch.arange(num_images).repeat(2)
    return Replicates(20 * (power * log_m).exp() * noise, draws, images, "degrees")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_trust_that_the_data_were_drawn_with_is_recovered(temperature):
    law = ResidualLaw.fit(spreads(1 / temperature, 2000, seed=0))
    assert law.temperature == pytest.approx(temperature, rel=0.1)
    low, high = law.interval
    # A parabola through points a quarter of an octave apart is off by more than chance is.
    assert low < law.temperature < high < 1.25 * low


def test_residual_law_covers_new_data_at_every_level():
    law = ResidualLaw.fit(spreads(0.5, 2000, seed=0))
    new = spreads(0.5, 1500, seed=1)
    raw, after = (expected_coverage(pit, new.images) for pit in (new.pit, law.pit(new)))
    for level in (0.5, 0.8, 0.95):
        assert after.at(level)["value"] == pytest.approx(level, abs=0.02)
        assert abs(raw.at(level)["value"] - level) > 0.1
        # Given the predicted spread too, not only on average: in the wider and the narrower half.
        wide = new.draws.median(0).values > 60
        for half in (wide, ~wide):
            covered = expected_coverage(law.pit(new)[half], new.images[half]).at(level)
            assert covered["value"] == pytest.approx(level, abs=0.04)


def test_a_wrong_trust_is_not_calibrated_given_the_spread():
    data = spreads(0.0, 2000, seed=0)  # the predicted spread says nothing
    law = replace(ResidualLaw.fit(data), temperature=1.0)
    wide = data.draws.median(0).values > 60
    assert (law.pit(data)[wide] < 0.5).double().mean() > 0.6
    fitted = ResidualLaw.fit(data)
    assert fitted.temperature > 8
    assert (fitted.pit(data)[wide] < 0.5).double().mean() == pytest.approx(0.5, abs=0.05)


def test_quantiles_are_those_of_the_pit():
    law, new = ResidualLaw.fit(spreads(1.0, 500, 0)), spreads(1.0, 500, 1)
    above = new.observed > law.quantile(new, 0.8)
    assert ((law.pit(new) > 0.8) == above).double().mean() > 0.995


def test_crps_against_the_normal_formula():
    torch.manual_seed(0)
    x = torch.tensor([0.0, 1.0, -2.5])
    draws = torch.randn(200_000, 3)
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = x * (2 * normal.cdf(x) - 1) + 2 * normal.log_prob(x).exp() - math.pi**-0.5
    torch.testing.assert_close(crps(draws, x), expected.double(), rtol=0.01, atol=0.003)


def test_crps_is_unbiased_over_few_draws():
    torch.manual_seed(0)
    few = crps(torch.randn(2, 100_000), torch.zeros(100_000)).mean()
    exact = (2 / math.pi) ** 0.5 - math.pi**-0.5
    assert few.item() == pytest.approx(exact, abs=0.01)


def test_crps_of_the_residual_law_is_that_of_its_definition():
    law, new = ResidualLaw.fit(spreads(0.7, 100, 0)), spreads(0.7, 20, 1)
    draws = law.residuals[:, None] * law.spread(new)
    torch.testing.assert_close(law.crps(new), crps(draws, new.observed.double()))


def test_the_fit_leaves_each_datum_out():
    data = spreads(0.7, 30, 0)
    law = ResidualLaw.fit(data)
    table = {}

    def scores(temperature):
        spread = replace(law, temperature=temperature).spread(data)
        residuals = data.observed.double() / spread
        table[temperature] = torch.stack(
            [
                spread[i]
                * crps(
                    torch.cat([residuals[:i], residuals[i + 1 :]])[:, None], residuals[i : i + 1]
                )[0]
                for i in range(len(residuals))
            ]
        )
        return table[temperature]

    value, _ = minimum(scores, data.images)
    assert law.temperature == pytest.approx(value, rel=1e-6)


def test_the_minimum_of_a_parabola_is_found():
    def scores(temperature):
        return (math.log(temperature) - 0.4) ** 2 + torch.arange(10.0)

    value, interval = minimum(scores, torch.arange(10))
    assert value == pytest.approx(math.exp(0.4), rel=1e-6)
    assert interval == pytest.approx((value, value), rel=1e-6)


@pytest.mark.parametrize("family", ["residual", "scale"])
def test_the_summary_has_before_and_after(pairs, family):
    fitted = fit_temperature(pairs, family, num_samples=20)
    result = fitted.apply(pairs.subset(slice(10)))
    summary = result.summary()
    assert summary["coverage_before"].keys() == {"0.5", "0.8", "0.95"}
    assert summary["coverage_after"]["0.8"]["n"] == 10
    own = fitted.apply(pairs)
    assert own.crps_after.mean() <= own.crps_before.mean() + 0.1


def test_the_model_as_it_is_has_scale_temperature_one(pairs):
    fitted = Temperature("scale", 1.0, (1.0, 1.0), None, 30, 0)
    result = fitted.apply(pairs)
    torch.testing.assert_close(result.crps_after, result.crps_before)
    torch.testing.assert_close(result.after.central, result.before.central)
