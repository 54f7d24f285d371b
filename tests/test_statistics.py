"""Intervals: right where theory knows them, and within their range whatever the values are."""

import numpy as np
import pytest
import scipy.stats
import torch

from vje_pyro import statistics
from vje_pyro.statistics import (
    BINS,
    CORRELATION,
    POSITIVE,
    REAL,
    SHARE,
    Figure,
    bootstrap,
    bootstrap_mean,
    counts,
    expected_calibration_error,
    in_range,
    over_repetitions,
    over_seeds,
    scale_of,
    show,
)

SCALES = pytest.mark.parametrize(
    "scale", [SHARE, CORRELATION, POSITIVE, REAL], ids=lambda s: s.name
)


def samples(scale, rng):
    """Repetitions from the whole range, its ends, all alike, and very near to each other."""
    low, high = max(scale.low, -50.0), min(scale.high, 1e4)
    for n in (1, 2, 3, 4, 10, 40):
        yield from rng.uniform(low, high, (30, n))
        yield from rng.choice([low, high], (30, n))
        yield from low + (high - low) * rng.beta(0.05, 0.05, (30, n))
        yield from (np.full(n, x) for x in (low, high, (low + high) / 3, low + 1e-9))
        yield high - 1e-12 * rng.random(n) * (high - low)


@SCALES
def test_no_interval_leaves_its_range(scale):
    for values in samples(scale, np.random.default_rng(0)):
        figure = over_repetitions(values, scale)
        assert scale.low <= figure.low <= figure.value <= figure.high <= scale.high
        assert np.isfinite([figure.low, figure.high]).all()
        assert figure.value == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
        if np.ptp(values) == 0:
            assert figure.low == figure.value == figure.high
        elif len(values) < 3:
            assert (figure.low, figure.high) == (values.min(), values.max())


@SCALES
def test_intervals_hold_the_mean_as_often_as_they_say(scale):
    centre = {SHARE: 0.9, CORRELATION: -0.5, POSITIVE: 3.0, REAL: 0.0}[scale]
    draws = np.random.default_rng(1).normal(centre, 0.02, (2000, 5))
    figures = [over_repetitions(values, scale) for values in draws]
    assert abs(np.mean([f.low <= centre <= f.high for f in figures]) - 0.95) < 0.016


@SCALES
def test_narrow_intervals_are_those_of_student(scale):
    values = np.array([0.61, 0.6101, 0.6099, 0.6102])
    figure = over_repetitions(values, scale)
    half = scipy.stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    ends = [figure.low - figure.value, figure.high - figure.value]
    assert ends == pytest.approx([-half, half], rel=2e-3)
    assert f"4 seeds, {scale.name}" in figure.interval


def test_by_hand():
    figure = over_repetitions([0.97, 0.99, 1.0], SHARE)
    mean, error = 2.96 / 3, np.std([0.97, 0.99, 1.0], ddof=1) / 3**0.5
    half = 4.302653 * error / (mean * (1 - mean))
    odds = mean / (1 - mean) * np.exp([-half, half])
    assert [figure.low, figure.high] == pytest.approx(odds / (1 + odds))
    with pytest.raises(ValueError, match=r"values on logit scale wanted, got \[0.5, 1.1\]"):
        over_repetitions([0.5, 1.1], SHARE)
    with pytest.raises(ValueError, match=r"wanted, got \[\]"):
        over_repetitions([], REAL)


def test_seeds():
    one, two, three = (Figure.point(x) for x in (0.5, 0.6, 0.7))
    assert over_seeds([one], SHARE) is one
    assert show(over_seeds([two, one], SHARE), ".0f", 100) == "50, 60"
    assert over_seeds([one, two, three], SHARE) == over_repetitions([0.5, 0.6, 0.7], SHARE)


def test_intervals_of_old_files_come_into_their_range():
    old = Figure(0.985, 0.969, 1.001, 10, "95% t-interval over 10 draws")
    new = in_range(old, SHARE)
    assert show(new, ".1f", 100) == "98.5 [95.7, 99.5]"
    assert in_range(new, SHARE) == new
    other = Figure(0.5, 0.4, 0.6, 9, "95% bootstrap over images")
    assert in_range(other, SHARE) is other
    full = Figure(1.0, 1.0, 1.0, 10, "95% t-interval over 10 draws")
    assert (in_range(full, SHARE).low, in_range(full, SHARE).high) == (1, 1)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("accuracy_5", SHARE), ("auroc_knn", SHARE), ("r-auroc_elbo", SHARE), ("ece_niw_1", SHARE),
        ("views-8_angle-50", SHARE), ("views-1_aurc_knn", SHARE), ("views-8_rank-alarms", SHARE),
        ("human_elbo", CORRELATION), ("severity_noise_elbo", CORRELATION), ("rankme", POSITIVE),
        ("views-2_variance", POSITIVE), ("nll_niw_1", POSITIVE), ("latent_gain", REAL),
        ("views-4_entropy", REAL),
    ],
)  # fmt: skip
def test_scales_of_figures(name, scale):
    assert scale_of(name) is scale


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(0.5, 0.4, 0.61, 9, "95% bootstrap over images"), "50.0 [40.0, 61.0]"),
        (Figure.point(0.5), "50.0"),
        (over_repetitions([0.5, 0.25]), "25.0, 50.0"),
        (over_repetitions([0.5]), "50.0"),
        (over_repetitions([0.5, 0.5]), "50.0, 50.0"),
    ],
)
def test_shown(figure, shown):
    assert show(figure, ".1f", 100) == shown


# ---------------------------------------------------------------------------------- the bootstrap


def test_the_bootstrap_agrees_with_explicit_resampling():
    correct = np.arange(400) < 290
    drawn = scipy.stats.binom(400, 290 / 400)
    figure = bootstrap_mean(correct, over="test images")
    assert figure.value == 290 / 400
    expected = np.array(drawn.ppf([0.025, 0.975])) / 400
    assert [figure.low, figure.high] == pytest.approx(expected, abs=6e-3)
    assert (figure.n, figure.interval) == (400, "95% bootstrap over test images")
    assert bootstrap_mean(correct) == bootstrap_mean(correct) != bootstrap_mean(correct, seed=1)


def test_the_bootstrap_covers():
    rng = np.random.default_rng(2)
    figures = [bootstrap_mean(rng.random(300) < 0.7, seed=i) for i in range(300)]
    coverage = np.mean([f.low <= 0.7 <= f.high for f in figures])
    assert abs(coverage - 0.95) < 3 * (0.95 * 0.05 / 300) ** 0.5 + 0.01


def test_samples_are_resampled_apart_and_one_unit_stays(monkeypatch):
    monkeypatch.setattr(statistics, "_BATCH", 700)  # several batches
    x, y = np.arange(50.0), 100 * np.arange(20.0)

    def means(first, second):
        return [x[first].mean(-1), y[second].mean(-1), counts(first).sum(-1)]

    one, two, size = bootstrap(means, 50, 20)
    assert (one.value, two.value, size.value) == (24.5, 950, 50)
    assert size.low == size.high == 50
    for figure, sample in ((one, x), (two, y)):
        width = 2 * 1.96 * sample.std() / len(sample) ** 0.5
        assert figure.high - figure.low == pytest.approx(width, rel=0.1)
    fixed, free = bootstrap(lambda a, b: [x[a].mean(-1), y[b].mean(-1)], 1, 20)
    assert (fixed.low, fixed.high) == (0, 0)
    assert free.low < free.value < free.high
    (alone,) = bootstrap(lambda a: x[a].mean(-1), 1)
    assert alone.low == alone.value == alone.high == 0


@pytest.mark.parametrize("values", [np.zeros(50, bool), np.ones(50, bool)])
def test_all_alike_have_no_width(values):
    figure = bootstrap_mean(values)
    assert figure.low == figure.value == figure.high == values[0]


@pytest.mark.parametrize("values", [[], np.ones((2, 2)), [1.0, np.nan], [np.inf]])
def test_a_mean_needs_a_vector_of_numbers(values):
    with pytest.raises(ValueError, match="non-empty vector of finite values"):
        bootstrap_mean(values)


# ------------------------------------------------------------------------------ calibration


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [1.0, 0.0]])
    # Bins of 1/5: the two of 0.9 share [0.8, 1] with that of 1; 0.65 is alone.
    expected = (abs(0.9 + 0.9 + 1 - 2) + abs(0.65 - 1)) / 4
    assert expected_calibration_error(p, np.array([0, 1, 1, 0]), bins=5) == pytest.approx(expected)


def test_calibration_agrees_with_torchmetrics_and_sees_sharpened_probabilities():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1.0, 1.0, 1.0], 40_000)
    y = (rng.random((len(p), 1)) > p.cumsum(1)).sum(1)
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    assert expected_calibration_error(p, y) < 0.01
    assert expected_calibration_error(sharp, y) > 0.15
    for probabilities in (p, sharp):
        reference = functional.multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(y), 3, n_bins=BINS, norm="l1"
        )
        found = expected_calibration_error(probabilities, y)
        assert found == pytest.approx(reference.item(), abs=1e-6)
