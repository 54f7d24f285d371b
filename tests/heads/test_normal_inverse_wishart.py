"""The conjugate family against its definition: quadrature, Monte Carlo, scipy, one at a time."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import invwishart, multivariate_normal, multivariate_t

from vje_pyro.heads import NormalInverseWishart, Statistics

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 3))
PRIOR = NormalInverseWishart(
    RNG.normal(size=(2, 3)), np.array([0.7, 2.0]), A @ A.T + np.eye(3), 5.5
)
X, Y = RNG.normal(size=(9, 3)), np.array([0, 0, 1, 0, 1, 1, 1, 0, 0])


def statistics(rows):
    return Statistics.of(X[rows], Y[rows], 2)


def test_one_update_is_many():
    together = PRIOR.update(statistics(slice(None)))
    apart = PRIOR
    for i in range(len(X)):
        apart = apart.update(statistics(slice(i, i + 1)))
    for name in ("loc", "concentration", "scatter", "df"):
        assert getattr(apart, name) == pytest.approx(getattr(together, name), rel=1e-10), name


def test_update_of_one_class_is_the_textbook_formula():
    x = X[Y == 0]
    prior = NormalInverseWishart(PRIOR.loc[:1], PRIOR.concentration[:1], PRIOR.scatter, PRIOR.df)
    posterior = prior.update(Statistics.of(x, np.zeros(len(x), int), 1))
    n, mean, kappa, m = len(x), x.mean(0), 0.7, PRIOR.loc[0]
    centred = x - mean
    expected = PRIOR.scatter + centred.T @ centred
    expected += kappa * n / (kappa + n) * np.outer(mean - m, mean - m)
    assert posterior.scatter == pytest.approx(expected)
    assert posterior.loc[0] == pytest.approx((kappa * m + n * mean) / (kappa + n))
    assert (posterior.concentration[0], posterior.df) == (kappa + n, PRIOR.df + n)


def test_predictive_is_scipys_student_t():
    df = PRIOR.df - 2
    for c, kappa in enumerate(PRIOR.concentration):
        shape = PRIOR.scatter * (kappa + 1) / (kappa * df)
        expected = multivariate_t(PRIOR.loc[c], shape, df).logpdf(X)
        assert PRIOR.log_predictive(X)[:, c] == pytest.approx(expected)


def test_predictive_is_the_mean_likelihood_of_parameters_drawn_from_the_prior():
    rng = np.random.default_rng(1)
    covariances = invwishart(PRIOR.df, PRIOR.scatter).rvs(20_000, random_state=rng)
    factors = np.linalg.cholesky(covariances)
    noise = rng.normal(size=(20_000, 3))
    for c, kappa in enumerate(PRIOR.concentration):
        means = PRIOR.loc[c] + np.einsum("nij,nj->ni", factors, noise) / np.sqrt(kappa)
        white = np.linalg.solve(factors, (X[0] - means)[..., None])[..., 0]
        log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_p = -0.5 * (white**2).sum(1) - log_det - 1.5 * np.log(2 * np.pi)
        estimate = logsumexp(log_p) - np.log(len(log_p))
        assert PRIOR.log_predictive(X[:1])[0, c] == pytest.approx(estimate, abs=0.05)


def test_predictive_integrates_to_one():
    law = NormalInverseWishart(np.array([[0.3]]), np.array([2.0]), np.array([[1.7]]), 2.5)
    total, _ = quad(lambda x: np.exp(law.log_predictive(np.array([[x]]))[0, 0]), -np.inf, np.inf)
    assert total == pytest.approx(1, abs=1e-8)


def test_evidence_is_the_product_of_the_predictives_one_after_another():
    law, total = PRIOR, 0.0
    for i in range(len(X)):
        total += law.log_predictive(X[i : i + 1])[0, Y[i]]
        law = law.update(statistics(slice(i, i + 1)))
    assert PRIOR.log_evidence(statistics(slice(None))) == pytest.approx(total)


def test_many_images_give_the_gaussian_of_the_classes():
    rng = np.random.default_rng(2)
    covariance, means = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[0.0, 1.0], [3.0, -1.0]])
    y = np.repeat([0, 1], 50_000)
    x = means[y] + rng.multivariate_normal(np.zeros(2), covariance, len(y))
    prior = NormalInverseWishart(np.zeros((2, 2)), np.ones(2), np.eye(2), 3.0)
    posterior = prior.update(Statistics.of(x, y, 2))
    grid = rng.normal(size=(20, 2))
    for c in range(2):
        expected = multivariate_normal(means[c], covariance).logpdf(grid)
        assert posterior.log_predictive(grid)[:, c] == pytest.approx(expected, abs=0.05)


def test_expected_statistics_are_those_of_draws():
    rng = np.random.default_rng(3)
    variance = rng.uniform(0.1, 1, X.shape)
    expected = statistics(slice(None)).plus_covariance(np.diag(variance.sum(0)))
    draws = [
        Statistics.of(X + np.sqrt(variance) * rng.normal(size=X.shape), Y, 2) for _ in range(4000)
    ]
    assert np.mean([d.second for d in draws], 0) == pytest.approx(expected.second, abs=0.3)
    assert np.mean([d.total for d in draws], 0) == pytest.approx(expected.total, abs=0.15)
    part = expected.block(slice(1, 3))
    assert (part.total.shape, part.second.shape) == ((2, 2), (2, 2))
    assert part.second.tolist() == expected.second[1:, 1:].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concentration": np.array([1.0, 0.0])}, "concentrations must be positive"),
        ({"df": 2.0}, "df above 2"),
        ({"scatter": -np.eye(3)}, "not positive definite"),
        ({"scatter": np.eye(2)}, r"scatter of \(3, 3\), got \(2,\) and \(2, 2\)"),
    ],
)
def test_bad_parameters(change, message):
    good = {name: getattr(PRIOR, name) for name in ("loc", "concentration", "scatter", "df")}
    with pytest.raises(ValueError, match=message):
        NormalInverseWishart(**(good | change))
