import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from vje_pyro.errors import NonFiniteError
from vje_pyro.scores import (
    METRICS,
    aurc,
    detection_figures,
    detection_metrics,
    optimal_aurc,
    spearman_figure,
)


def scores(ties, seed=0, n=83, m=41):
    rng = np.random.default_rng(seed)
    low, high = rng.normal(size=n), rng.normal(0.7, 1.3, size=m)
    return (low.round(0), high.round(0)) if ties else (low, high)


def fpr95(labels, values):
    fpr, tpr, _ = roc_curve(labels, values, drop_intermediate=False)
    return fpr[np.flatnonzero(tpr >= 0.95)[0]]


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_sklearn(ties):
    low, high = scores(ties)
    labels, values = np.repeat([0, 1], [len(low), len(high)]), np.concatenate([low, high])
    ours = detection_metrics(low, high)
    assert ours["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    assert ours["aupr"] == pytest.approx(average_precision_score(labels, values), abs=1e-12)
    assert ours["fpr95"] == pytest.approx(fpr95(labels, values), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_weights_count_images_several_times(ties):
    low, high = scores(ties)
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (3, len(low))), rng.integers(0, 4, (3, len(high)))
    weighted = detection_metrics(low, high, a, b)
    for row in range(3):
        again = detection_metrics(np.repeat(low, a[row]), np.repeat(high, b[row]))
        for metric in METRICS:
            assert weighted[metric][row] == pytest.approx(again[metric], abs=1e-12)


def test_extremes():
    perfect = detection_metrics([0.0, 1.0], [2.0, np.inf])
    assert [float(perfect[m]) for m in METRICS] == [1.0, 1.0, 0.0]
    useless = detection_metrics(np.zeros(6), np.zeros(3))
    assert useless["auroc"] == 0.5
    assert useless["aupr"] == pytest.approx(1 / 3)
    assert useless["fpr95"] == 1.0
    assert detection_metrics([2.0, 3.0], [0.0, 1.0])["auroc"] == 0.0


def test_higher_is_more_outlying():
    low, high = scores(False)
    assert detection_metrics(low, high)["auroc"] > 0.5 > detection_metrics(high, low)["auroc"]


def test_intervals_are_a_stratified_bootstrap():
    low, high = scores(False, n=300, m=150)
    inliers, outliers = {"a": low, "b": -low}, {"a": high, "b": high}
    figures = detection_figures(inliers, outliers)
    assert set(figures) == {f"{metric}_{name}" for metric in METRICS for name in "ab"}
    rng = np.random.default_rng(5)
    draws = [
        detection_metrics(rng.choice(low, len(low)), rng.choice(high, len(high)))["auroc"]
        for _ in range(400)
    ]
    figure = figures["auroc_a"]
    assert [figure.low, figure.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)
    assert figure.low < figure.value < figure.high
    assert figure.n == 450
    with pytest.raises(ValueError, match=r"scores \['a'\] and \['a', 'b'\] are not the same"):
        detection_figures({"a": low}, outliers)


@pytest.mark.parametrize("bad", [[], [[1.0]], 3.0])
def test_scores_that_are_no_vector(bad):
    with pytest.raises(ValueError, match="non-empty vector"):
        detection_metrics(bad, [1.0])


def test_nan_scores():
    with pytest.raises(NonFiniteError, match="1 of 3 outliers have a NaN score, the first is 2"):
        detection_metrics([1.0], [0.0, 1.0, np.nan])


# ------------------------------------------------------------- selective prediction, correlations

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


def test_weights_of_the_aurc_count_images_several_times():
    weights = RNG.integers(0, 3, (2, 200))
    for values in (VALUES, VALUES.round(0)):
        again = [aurc(np.repeat(ERRORS, row), np.repeat(values, row)) for row in weights]
        assert aurc(ERRORS, values, weights) == pytest.approx(again, abs=1e-12)


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
    figure = spearman_figure(VALUES, other)
    assert figure.value == pytest.approx(spearmanr(VALUES, other).statistic, abs=1e-12)
    assert figure.low < figure.value < figure.high
    assert spearman_figure(VALUES, -VALUES).value == pytest.approx(-1)


def test_spearman_resamples_all_values_of_an_image_together():
    image = RNG.normal(size=(60, 1))
    severity = np.tile(np.arange(6.0), (60, 1))
    values = 3 * image + severity
    figure = spearman_figure(values, severity)
    assert figure.n == 60
    assert figure.value == pytest.approx(spearmanr(values.ravel(), severity.ravel()).statistic)
    apart = spearman_figure(values.ravel(), severity.ravel())
    assert apart.n == 360
    assert figure.high - figure.low != pytest.approx(apart.high - apart.low, rel=1e-3)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [([1.0, 2.0], [1.0], "one shape"), ([1.0, 2.0], [3.0, 3.0], "differ; all are 3")],
)
def test_spearman_of_bad_input(one, two, message):
    with pytest.raises(ValueError, match=message):
        spearman_figure(one, two)
