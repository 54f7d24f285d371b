import pytest
import torch
from torch.distributions import Normal

from vje_pyro.diagnostics.coverage import LEVELS, expected_coverage


def pit_of(spread, num_images=2000, seed=0):
    """Two data an image; observations N(0, 1), predicted with the given standard deviation."""
    torch.manual_seed(seed)
    shared, own = torch.randn(num_images), torch.randn(2, num_images)
    observed = 0.8**0.5 * shared + 0.2**0.5 * own  # each standard normal, correlated
    return Normal(0.0, spread).cdf(observed).flatten(), torch.arange(num_images).repeat(2)


def test_a_calibrated_prediction_covers_what_it_says():
    coverage = expected_coverage(*pit_of(1.0))
    torch.testing.assert_close(coverage.levels, torch.tensor(LEVELS, dtype=torch.float64))
    for tail in ("central", "lower"):
        for level in LEVELS:
            assert coverage.at(level, tail)["value"] == pytest.approx(level, abs=0.035)
    inside = [
        interval[0] <= level <= interval[1]
        for level, interval in zip(coverage.levels, coverage.central_interval, strict=True)
    ]
    assert sum(inside) >= 15


@pytest.mark.parametrize(("spread", "sign"), [(0.5, -1), (2.0, 1)])
def test_overconfidence_and_underconfidence_are_seen(spread, sign):
    coverage = expected_coverage(*pit_of(spread))
    # Central intervals of N(0, spread²) hold |x| < spread times the normal quantile.
    for level in (0.5, 0.8):
        reach = spread * Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2))
        expected = 2 * Normal(0.0, 1.0).cdf(reach) - 1
        figure = coverage.at(level)
        assert figure["value"] == pytest.approx(expected.item(), abs=0.03)
        assert sign * (figure["value"] - level) > 0.1
        assert not figure["low"] <= level <= figure["high"]
    assert coverage.at(0.5, "lower")["value"] == pytest.approx(0.5, abs=0.03)


def test_a_shift_is_seen_in_the_lower_tail_alone():
    # Half a PIT of one side: the central intervals cannot tell it from a wide prediction.
    coverage = expected_coverage(torch.linspace(0.25, 0.5, 1001), torch.arange(1001))
    assert coverage.at(0.5, "lower")["value"] == 1.0
    assert coverage.at(0.5)["value"] == pytest.approx(1.0, abs=2e-3)


def test_calibration_error():
    assert expected_coverage(*pit_of(1.0)).error.value < 0.03
    # All predictions far too wide: every central interval is hit; far too narrow: none is.
    for pit, missed in ((0.5, [1 - level for level in LEVELS]), (1.0, LEVELS)):
        error = expected_coverage(torch.full((10,), pit), torch.arange(10)).error
        assert error.value == error.low == error.high == pytest.approx(sum(missed) / len(LEVELS))


def test_the_interval_is_over_images():
    pit, images = pit_of(1.0, num_images=500)
    width = _width(expected_coverage(pit, images))
    # As wide as for one datum an image if an image's data agree, narrower if they were many.
    assert _width(expected_coverage(pit.repeat(10), images.repeat(10))) == pytest.approx(width)
    assert _width(expected_coverage(pit, torch.arange(1000))) < 0.9 * width
    binomial = 2 * 1.96 * (0.5 * 0.5 / 500) ** 0.5
    assert 0.6 * binomial < width < 1.2 * binomial


def _width(coverage):
    low, high = coverage.central_interval[LEVELS.index(0.5)].tolist()
    return high - low
