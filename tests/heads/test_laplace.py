import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, log_softmax, softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from vje_pyro.heads import LaplaceHead
from vje_pyro.heads.laplace import expected_softmax
from vje_pyro.heads.latents import as_latents


def loss(head, x, y, weights):
    inputs = np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))])
    log_p = log_softmax(inputs @ weights.T, axis=1)[np.arange(len(y)), y]
    return -log_p.sum() + 0.5 * head.precision_ * np.square(weights).sum()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_weights_are_the_mode(problem, num_classes):
    x, y = problem(num_classes, dim=4).images(60)
    head = LaplaceHead().fit(x, y)
    best = loss(head, x, y, head.coef_)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert loss(head, x, y, head.coef_ + 0.02 * rng.normal(size=head.coef_.shape)) > best


def test_evidence_is_laplaces_with_the_full_hessian_where_the_factors_are_exact():
    """For one image the Hessian is a Kronecker product, and its evidence is known in full."""
    head = LaplaceHead().fit(np.array([[0.0, 1.0], [2.0, 0.5]]), np.array([0, 1]))
    x, y, alpha = np.array([[0.3, -1.2, 1.0]] * 2), np.array([0, 1]), 1.7
    value = head._log_evidence(x, y, alpha)
    p = softmax(x @ head.coef_.T, axis=1)
    hessian = sum(
        np.kron(np.diag(row) - np.outer(row, row), np.outer(point, point))
        for row, point in zip(p, x, strict=True)
    )
    full = alpha * np.eye(6) + hessian
    expected = np.log(p[[0, 1], y]).sum() - 0.5 * alpha * np.square(head.coef_).sum()
    expected += 3 * np.log(alpha) - 0.5 * np.linalg.slogdet(full)[1]
    assert value == pytest.approx(expected)
    head.precision_ = alpha
    new = np.array([[0.5, -0.4]])
    _, covariance = head.logits(as_latents(new))
    inputs = np.append(head._scaler.transform(new), 1.0)
    jacobian = np.kron(np.eye(2), inputs)
    assert covariance[0] == pytest.approx(jacobian @ np.linalg.inv(full) @ jacobian.T)


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
