import numpy as np
import pytest

from vje_pyro.evaluation.bootstrap import bootstrap_accuracy, t_interval


def hits(n, right):
    return np.arange(n) < right


def test_agrees_with_explicit_resampling():
    correct = hits(400, 290)
    rng = np.random.default_rng(1)
    means = correct[rng.integers(400, size=(20_000, 400))].mean(axis=1)
    figure = bootstrap_accuracy(correct, resamples=20_000)
    assert figure.value == 290 / 400
    assert [figure.low, figure.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=3e-3)
    assert (figure.n, figure.interval) == (400, "95% bootstrap over test images")


@pytest.mark.parametrize(("accuracy", "n"), [(0.7, 400), (0.95, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_covers_the_truth_as_often_as_it_says(accuracy, n, level):
    rng = np.random.default_rng(2)
    runs = 1000
    figures = [
        bootstrap_accuracy(rng.random(n) < accuracy, level=level, resamples=1000, seed=i)
        for i in range(runs)
    ]
    coverage = np.mean([f.low <= accuracy <= f.high for f in figures])
    # Three standard errors of a coverage over 1000 runs, and 0.01 for discrete accuracies.
    assert abs(coverage - level) < 3 * (level * (1 - level) / runs) ** 0.5 + 0.01


def test_seed_and_order():
    correct = hits(1000, 613)
    assert bootstrap_accuracy(correct) == bootstrap_accuracy(correct[::-1])
    assert bootstrap_accuracy(correct, seed=0, resamples=50) != bootstrap_accuracy(
        correct, seed=1, resamples=50
    )


def test_narrows_with_more_images():
    wide, narrow = bootstrap_accuracy(hits(100, 70)), bootstrap_accuracy(hits(10_000, 7000))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("right", [0, 50])
def test_all_or_nothing(right):
    figure = bootstrap_accuracy(hits(50, right))
    assert figure.low == figure.value == figure.high == right / 50


@pytest.mark.parametrize("correct", [np.array([], dtype=bool), np.ones(3), np.ones((2, 2), bool)])
def test_refuses_what_is_not_hits(correct):
    with pytest.raises(ValueError, match="boolean vector"):
        bootstrap_accuracy(correct)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_refuses_levels(level):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {level}"):
        bootstrap_accuracy(hits(5, 3), level=level)


def test_t_interval_by_hand():
    figure = t_interval([1.0, 2.0, 3.0], over="seeds")
    assert figure.value == 2
    assert figure.high - 2 == pytest.approx(2 - figure.low) == pytest.approx(4.302653 / 3**0.5)
    assert (figure.n, figure.interval) == (3, "95% t-interval over 3 seeds")


def test_t_interval_covers():
    values = np.random.default_rng(0).normal(size=(2000, 4))
    figures = [t_interval(row, over="draws") for row in values]
    coverage = np.mean([f.low <= 0 <= f.high for f in figures])
    assert abs(coverage - 0.95) < 0.016


def test_t_interval_needs_two():
    with pytest.raises(ValueError, match="over seeds needs at least 2 of them, got 1"):
        t_interval([0.5], over="seeds")
