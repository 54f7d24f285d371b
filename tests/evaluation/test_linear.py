import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation.linear import C, fit_linear, linear_predict, linear_sgd_predict


@pytest.fixture
def data():
    """Three overlapping classes in features of very different scales."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(0.01, 100, 8)
    centres = rng.normal(size=(3, 8))
    train_y, test_y = np.arange(240) % 3, np.arange(90) % 3
    train_x = (centres[train_y] + rng.normal(size=(240, 8))) * scales + 5
    test_x = (centres[test_y] + rng.normal(size=(90, 8))) * scales + 5
    return train_x.astype(np.float32), train_y, test_x.astype(np.float32), test_y


def test_is_the_documented_scikit_learn_pipeline(data):
    train_x, train_y, test_x, _ = data
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-4, max_iter=5000))
    expected = pipeline.fit(train_x, train_y).predict(test_x)
    assert np.array_equal(linear_predict(train_x, train_y, test_x), expected)


def test_is_the_optimum_of_the_documented_objective(data):
    """The gradient of sum of log losses + |W|^2 / (2 C) vanishes, computed here from scratch."""
    train_x, train_y, _, _ = data
    probe = fit_linear(train_x, train_y)
    x = (train_x - train_x.mean(0, dtype=np.float64)) / train_x.std(0, dtype=np.float64)
    weights, bias = probe.classifier.coef_, probe.classifier.intercept_
    logits = x @ weights.T + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = probabilities - np.eye(3)[train_y]
    gradient = (residual.T @ x + weights / C) / len(x)
    assert np.abs(gradient).max() < 1e-3
    assert np.abs(residual.mean(0)).max() < 1e-3
    assert np.abs(weights).max() > 0.1


def test_standardises_with_training_statistics_only(data):
    train_x, train_y, test_x, _ = data
    predicted = linear_predict(train_x, train_y, test_x)
    one_by_one = [linear_predict(train_x, train_y, row[None])[0] for row in test_x[:10]]
    assert predicted[:10].tolist() == one_by_one
    shifted = linear_predict(train_x, train_y, test_x + 50 * train_x.std(0))
    assert not np.array_equal(shifted, predicted)


def test_scale_and_offset_of_a_feature_do_not_matter(data):
    train_x, train_y, test_x, _ = data
    scale, offset = np.geomspace(1e-2, 1e2, 8), np.arange(8)
    expected = linear_predict(train_x, train_y, test_x)
    predicted = linear_predict(train_x * scale + offset, train_y, test_x * scale + offset)
    assert np.mean(predicted == expected) > 0.98


def test_one_class_is_refused(data):
    train_x, _, test_x, _ = data
    with pytest.raises(ValueError, match="one class"):
        linear_predict(train_x, np.zeros(240, dtype=int), test_x)


def test_constant_feature(data):
    train_x, train_y, test_x, _ = data
    train_x[:, 3] = test_x[:, 3] = 7
    assert np.isfinite(fit_linear(train_x, train_y).scaler.transform(test_x)).all()


class TestSGD:
    def test_agrees_with_the_convex_optimum(self, data):
        train_x, train_y, test_x, test_y = data
        scaler = StandardScaler().fit(train_x)
        train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
        sgd = linear_sgd_predict(train_x, train_y, test_x)
        assert np.mean(sgd == linear_predict(train_x, train_y, test_x)) > 0.95
        assert np.mean(sgd == test_y) > 0.6

    def test_does_not_standardise(self, data):
        train_x, train_y, test_x, _ = data
        scaled = linear_sgd_predict(train_x * 1e-6, train_y, test_x * 1e-6)
        assert not np.array_equal(scaled, linear_sgd_predict(train_x, train_y, test_x))

    def test_is_reproducible_and_leaves_the_global_generator_alone(self, data):
        train_x, train_y, test_x, _ = data
        before = torch.get_rng_state()
        first = linear_sgd_predict(train_x, train_y, test_x)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        assert np.array_equal(linear_sgd_predict(train_x, train_y, test_x), first)

    def test_divergence_is_said(self, data):
        train_x, train_y, test_x, _ = data
        with pytest.raises(NonFiniteError, match=r"diverged at learning rate 0\.1"):
            linear_sgd_predict(train_x * 1e25, train_y, test_x)
