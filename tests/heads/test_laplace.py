import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from scipy.stats.qmc import MultivariateNormalQMC
from sklearn.linear_model import LogisticRegression

from vje_pyro.heads import LaplaceHead
from vje_pyro.heads.laplace import Labelled, expected_softmax
from vje_pyro.heads.latents import as_latents

ALPHA = 0.8


def labelled(x, y, num_classes=2, draws=512):
    noise = MultivariateNormalQMC(np.zeros(num_classes), rng=0).random(draws)
    return Labelled.of(x, np.eye(num_classes)[y], noise)


def test_one_weight_against_quadrature():
    """Of two classes only w₁ − w₀ counts; of inputs of one length the factors are exact."""
    x, y = 1.2 * np.array([1, -1, 1, 1])[:, None], np.array([1, 0, 1, 0])
    sign = 2 * y - 1

    def joint(d):
        return np.prod(expit(sign * d * x[:, 0])) * norm(0, np.sqrt(2 / ALPHA)).pdf(d)

    evidence, first, second = (
        quad(lambda d, power=power: d**power * joint(d), -30, 30)[0] for power in range(3)
    )
    mean, square = first / evidence, second / evidence
    data = labelled(x, y)
    found = data.approximate(ALPHA)
    weights = (found.mean @ data.axes.T)[:, 0]
    assert weights[1] - weights[0] == pytest.approx(mean, rel=0.03)
    contrast = found.class_axes.T @ [-1, 1]
    assert found.variance[0] @ contrast**2 == pytest.approx(square - mean**2, rel=0.1)
    assert np.log(evidence) - 0.03 < found.bound < np.log(evidence) + 1e-3


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_mean_has_the_greatest_bound(problem, num_classes):
    x, y = problem(num_classes, dim=4).images(60)
    data = labelled(x, y, num_classes)
    best = data.approximate(ALPHA)
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = best.mean + 0.1 * rng.normal(size=best.mean.shape)
        assert data.gaussian(moved, best.hessian, ALPHA).bound < best.bound


def test_covariance_is_that_of_the_full_hessian_where_the_factors_are_exact():
    """Of equal inputs the Hessian is a Kronecker product."""
    head = LaplaceHead().fit(np.array([[0.0, 1.0], [2.0, 0.5]]), np.array([0, 1]))
    data = labelled(np.array([[0.3, -1.2, 1.0]] * 2), np.array([0, 1]))
    found = data.approximate(ALPHA)
    head._posterior, head._input_axes = found, data.axes
    point = data.inputs[0] @ data.axes.T
    full = ALPHA * np.eye(6) + 2 * np.kron(found.hessian, np.outer(point, point))
    new = np.array([[0.5, -0.4]])
    _, covariance = head.logits(as_latents(new))
    jacobian = np.kron(np.eye(2), np.append(head._scaler.transform(new), 1.0))
    assert covariance[0] == pytest.approx(jacobian @ np.linalg.inv(full) @ jacobian.T, rel=1e-2)


def test_confidence_is_the_accuracy_where_the_prior_is_true():
    """Laplace's Gaussian at the mode is ten points less confident than right here."""
    rng = np.random.default_rng(0)
    dim, num_classes, alpha = 20, 4, 0.5
    noise = MultivariateNormalQMC(np.zeros(num_classes), rng=0).random(64)
    gaps = []
    for _ in range(100):
        weights = rng.normal(size=(num_classes, dim)) / np.sqrt(alpha)
        x = rng.normal(size=(220, dim))
        logits = x @ weights.T + rng.gumbel(size=(220, num_classes))
        y = logits.argmax(1)
        data = labelled(x[:20], y[:20], num_classes, draws=64)
        found = data.approximate(alpha)
        new = x[20:] @ data.axes
        spread = (new**2 @ found.variance)[:, None] * found.class_axes
        p = expected_softmax(new @ found.mean.T, spread @ found.class_axes.T, noise)
        gaps.append(p.max(1).mean() - (p.argmax(1) == y[20:]).mean())
    assert -0.01 < np.mean(gaps) < 0.04  # variational Gaussians are a little too narrow


def test_logits_of_posteriors_are_those_of_draws(problem):
    x, y = problem(3, dim=4).images(60)
    head = LaplaceHead().fit(x, y)
    scale = np.array([0.3, 1.0, 0.1, 0.5])
    mean, covariance = head.logits(as_latents((x[:1], scale[None])))
    rng = np.random.default_rng(0)
    means, within = head.logits(as_latents(x[0] + scale * rng.normal(size=(40_000, 4))))
    assert mean[0] == pytest.approx(means.mean(0), abs=0.02)
    assert covariance[0] == pytest.approx(np.cov(means.T) + within.mean(0), abs=0.05)


def test_expected_softmax_of_two_logits_is_the_logistic_normal_integral():
    mean, covariance = np.array([[0.8, -0.4]]), np.array([[[1.5, 0.3], [0.3, 0.7]]])
    noise = np.random.default_rng(0).normal(size=(200_000, 2))
    law = norm(1.2, np.sqrt(1.5 + 0.7 - 0.6))
    expected, _ = quad(lambda d: expit(d) * law.pdf(d), -20, 20)
    assert expected_softmax(mean, covariance, noise)[0, 0] == pytest.approx(expected, abs=0.003)


def test_precision_follows_the_evidence(problem, few):
    strong, weak = (problem(4, 12, spread).images(800) for spread in (1.5, 0.05))
    precise, vague = (LaplaceHead().fit(x, few(y, 50)) for x, y in (strong, weak))
    assert vague.precision_ > 3 * precise.precision_


def test_probabilities_are_better_than_those_of_logistic_regression(problem, few):
    losses = []
    for seed in range(10):
        task = problem(5, 40, 0.15, seed)
        x, y = task.images(1000)
        new, target = task.images(500)
        known, rows = few(y, 5, seed), (np.arange(len(new)), target)
        log_p = LaplaceHead().fit(x, known).log_predictive(new)
        reference = LogisticRegression().fit(x[known >= 0], known[known >= 0])
        losses.append((-log_p[rows].mean(), -reference.predict_log_proba(new)[rows].mean()))
    bayesian, plain = np.mean(losses, axis=0)
    assert bayesian < plain - 0.02
    assert bayesian < np.log(5)
