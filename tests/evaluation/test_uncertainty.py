import numpy as np
import pytest
from scipy.stats import spearmanr

from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation.risk_coverage import aurc, aurc_figure, optimal_aurc
from vje_pyro.evaluation.uncertainty import (
    calibration_figure,
    selective_details,
    selective_figures,
    spearman_figure,
)

RNG = np.random.default_rng(0)
ERRORS = RNG.random(200) < 0.3
VALUES = RNG.normal(size=200) + ERRORS


def brute_force(errors, values):
    """Mean over coverages of the risk, the average over all orders within ties."""
    total = 0.0
    for count in range(1, len(errors) + 1):
        edge = np.sort(values)[count - 1]
        sure, tied = values < edge, values == edge
        missing = count - sure.sum()
        total += (errors[sure].sum() + missing * errors[tied].mean()) / count
    return total / len(errors)


@pytest.mark.parametrize("decimals", [8, 0])
def test_aurc_is_the_brute_force_formula(decimals):
    values = VALUES.round(decimals)
    assert aurc(ERRORS, values) == pytest.approx(brute_force(ERRORS, values), abs=1e-12)


def test_aurc_between_the_best_and_the_error_rate():
    assert optimal_aurc(ERRORS) == pytest.approx(brute_force(ERRORS, ERRORS.astype(float)))
    assert optimal_aurc(ERRORS) < aurc(ERRORS, VALUES) < ERRORS.mean()
    assert aurc(ERRORS, np.zeros(200)) == pytest.approx(ERRORS.mean())
    assert aurc(ERRORS, -VALUES) > ERRORS.mean()
    order = RNG.permutation(200)
    ties = VALUES.round(0)
    assert aurc(ERRORS[order], ties[order]) == pytest.approx(aurc(ERRORS, ties))


def test_aurc_by_hand():
    assert aurc([False, True, False], [1.0, 2.0, 3.0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


def test_weights_count_images_several_times():
    weights = RNG.integers(0, 3, (2, 200))
    for values in (VALUES, VALUES.round(0)):
        again = [aurc(np.repeat(ERRORS, row), np.repeat(values, row)) for row in weights]
        assert aurc(ERRORS, values, weights) == pytest.approx(again, abs=1e-12)


def test_figures_and_details():
    scores, errors = {"a": VALUES, "b": -VALUES}, {"knn": ERRORS}
    figures = selective_figures(scores, errors)
    assert set(figures) == {"aurc_knn_a", "aurc_knn_b"}
    figure = figures["aurc_knn_a"]
    assert figure == aurc_figure(ERRORS, VALUES)
    assert figure.low < figure.value < figure.high
    draws = [RNG.integers(0, 200, 200) for _ in range(500)]
    expected = np.quantile([aurc(ERRORS[i], VALUES[i]) for i in draws], [0.025, 0.975])
    assert [figure.low, figure.high] == pytest.approx(expected, abs=0.02)
    details = selective_details(errors)
    assert details == {
        "error_knn": ERRORS.mean(),
        "best_aurc_knn": pytest.approx(optimal_aurc(ERRORS)),
    }


def test_aurc_of_bad_input():
    with pytest.raises(ValueError, match="boolean vector of 200 images"):
        aurc(ERRORS.astype(float), VALUES)
    with pytest.raises(ValueError, match="boolean vector of 3 images"):
        aurc(ERRORS, VALUES[:3])
    with pytest.raises(NonFiniteError, match="NaN score"):
        aurc([True, False], [0.0, np.nan])


@pytest.mark.parametrize("decimals", [8, 0])
def test_spearman_is_that_of_scipy(decimals):
    other = (VALUES + RNG.normal(size=200)).round(decimals)
    figure = spearman_figure(VALUES, other, resamples=200)
    assert figure.value == pytest.approx(spearmanr(VALUES, other).statistic, abs=1e-12)
    assert figure.low < figure.value < figure.high
    assert spearman_figure(VALUES, -VALUES, resamples=10).value == pytest.approx(-1)


def test_spearman_resamples_all_values_of_an_image_together():
    image = RNG.normal(size=(60, 1))
    severity = np.tile(np.arange(6.0), (60, 1))
    values = 3 * image + severity
    figure = spearman_figure(values, severity, resamples=300)
    assert figure.n == 60
    assert figure.value == pytest.approx(spearmanr(values.ravel(), severity.ravel()).statistic)
    apart = spearman_figure(values.ravel(), severity.ravel(), resamples=300)
    assert apart.n == 360
    assert figure.high - figure.low != pytest.approx(apart.high - apart.low, rel=1e-3)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [([1.0, 2.0], [1.0], "one shape"), ([1.0, 2.0], [3.0, 3.0], "differ; all are 3")],
)
def test_spearman_of_bad_input(one, two, message):
    with pytest.raises(ValueError, match=message):
        spearman_figure(one, two)


def test_calibration_error():
    images = np.repeat(np.arange(2000), 2)
    uniform = RNG.random(4000)
    assert calibration_figure(uniform, images, resamples=50).value < 0.01
    # All predictions far too wide: every central interval but none of the tails is hit.
    centre = calibration_figure(np.full(10, 0.5), np.arange(10), resamples=50)
    assert centre.value == pytest.approx(np.mean(1 - np.arange(1, 20) / 20))
    assert (centre.n, centre.low) == (10, pytest.approx(centre.value))
    edge = calibration_figure(np.ones(10), np.arange(10), resamples=50)
    assert edge.value == pytest.approx(np.mean(np.arange(1, 20) / 20))
    with pytest.raises(ValueError, match="vectors alike"):
        calibration_figure(uniform, images[:5])
