import numpy as np
import pytest
from scipy.integrate import dblquad
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vje_pyro.heads import GaussianHead
from vje_pyro.statistics import expected_calibration_error


def test_densities_integrate_to_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ np.array([[2.0, 0.3], [0.0, 0.6]]) + 1
    head = GaussianHead(df=20).fit(x, np.arange(60) % 3 - 1)
    for c in range(2):
        total, _ = dblquad(
            lambda a, b, c=c: np.exp(head.log_density(np.array([[a, b]]))[0, c]),
            -6, 8, -14, 16, epsabs=1e-4,
        )  # fmt: skip
        assert total == pytest.approx(1, abs=1e-3)


def test_many_labels_give_the_accuracy_of_linear_discriminants(problem):
    task = problem(num_classes=5, dim=20, spread=0.6)
    x, y = task.images(20_000)
    new, target = task.images(20_000)
    best = LinearDiscriminantAnalysis().fit(x, y).score(new, target)
    assert 0.6 < best < 0.95
    assert GaussianHead().fit(x, y).score(new, target) == pytest.approx(best, abs=0.01)


def test_more_labels_are_better_and_reveal_the_ratio(problem, few):
    task = problem(num_classes=5, dim=20, spread=0.6)
    x, y = task.images(4000)
    new, target = task.images(4000)
    heads = [GaussianHead().fit(x, few(y, m)) for m in (1, 10, 100)]
    losses = [-head.log_predictive(new)[np.arange(len(new)), target].mean() for head in heads]
    assert losses[0] > losses[1] > losses[2]
    assert losses[0] < np.log(5)
    weak = problem(num_classes=5, dim=20, spread=0.1).images(4000)
    assert GaussianHead().fit(weak[0], few(weak[1], 100)).ratio_ < heads[2].ratio_ / 5


@pytest.mark.parametrize("per_class", [1, 5, 20])
def test_calibrated_on_data_of_the_model(problem, few, per_class):
    """Over many problems drawn from the prior, probabilities are right; in one they need not be."""
    probabilities, targets = [], []
    scale = np.linspace(2, 0.3, 12)
    for seed in range(30):
        ratio = np.exp(np.log(0.1) + np.random.default_rng(seed).normal())
        spread = np.sqrt(ratio * (scale**2).sum() / (scale**4).sum())
        task = problem(num_classes=5, dim=12, spread=spread, seed=seed)
        x, y = task.images(1000)
        new, target = task.images(200)
        probabilities.append(GaussianHead().fit(x, few(y, per_class, seed)).predict_proba(new))
        targets.append(target)
    p, y = np.concatenate(probabilities), np.concatenate(targets)
    assert expected_calibration_error(p, y) < 0.05
    assert np.mean(p.argmax(1) == y) > 0.25


def test_a_direction_of_huge_variance_does_not_hide_the_others(problem, few):
    task = problem(num_classes=4, dim=12, spread=1.0)
    x, y = task.images(2000)
    wide = np.column_stack([x, 30 * task.rng.normal(size=len(x))])
    known = few(y, 10)
    head = GaussianHead().fit(wide, known)
    assert head.exponent_ < 1
    assert head.score(wide, y) > GaussianHead().fit(x, known).score(x, y) - 0.05


def test_class_probabilities_count_images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))  # that say nothing of the class
    y = np.repeat([0, 1], [300, 100])
    p = GaussianHead().fit(x, y).predict_proba(x).mean(0)
    assert p == pytest.approx([301 / 402, 101 / 402], abs=0.02)


def test_posteriors_average_the_class_over_their_draws(problem, few):
    task = problem()
    x, y = task.images(400)
    head = GaussianHead(num_samples=400).fit((x, 0 * x + 0.3), few(y, 10))
    rng = np.random.default_rng(1)
    point, scale = x[0], 0.7
    draws = point + scale * rng.normal(size=(20_000, x.shape[1]))
    expected = head.predict_proba(draws).mean(0)
    p = head.predict_proba((point[None], np.full((1, len(point)), scale)))[0]
    assert p == pytest.approx(expected, abs=0.06)


def test_variance_of_the_labelled_images_makes_the_classes_less_certain(problem, few):
    task = problem(spread=0.4)
    x, y = task.images(400)
    known = few(y, 10)
    certain, vague = (GaussianHead().fit((x, 0 * x + s), known).predict_proba(x) for s in (0, 1.5))
    assert vague.max(1).mean() < certain.max(1).mean() - 0.05


def test_rotations_and_shifts_of_the_features_do_not_matter(problem, few):
    task = problem()
    x, y = task.images(400)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    known = few(y, 5)
    one = GaussianHead().fit(x, known).predict_proba(x)
    other = GaussianHead().fit(3 * x @ rotation + 5, known).predict_proba(3 * x @ rotation + 5)
    assert other == pytest.approx(one, abs=1e-6)


def test_digits_with_ten_labels(few):
    """Known: about 0.83 on raw pixels, over draws."""
    x, y = load_digits(return_X_y=True)
    train, test = slice(0, 1400), slice(1400, None)
    head = GaussianHead().fit(x[train], few(y[train], 10))
    p = head.predict_proba(x[test])
    assert np.mean(p.argmax(1) == y[test]) > 0.78
    assert expected_calibration_error(p, y[test]) < 0.12


@pytest.mark.parametrize("df", [2.0, -1.0, float("nan")])
def test_degrees_of_freedom_above_two(df):
    with pytest.raises(ValueError, match="df must be above 2"):
        GaussianHead(df=df).fit(np.arange(6.0).reshape(3, 2) ** 2, np.array([0, 1, 1]))
