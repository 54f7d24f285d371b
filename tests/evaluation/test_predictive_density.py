import numpy as np
import pytest
from scipy.stats import multivariate_t, spearmanr

from vje_pyro.evaluation.detectors import Mahalanobis
from vje_pyro.evaluation.predictive_density import PredictiveDensity


def bank(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 4)) @ np.diag([3.0, 1.0, 0.5, 0.1]) + 7).astype(np.float32)


def test_is_the_student_t_of_the_conjugate_update():
    x, new = bank(50).astype(float), bank(5, 1)
    mean, centred = x.mean(0), x - x.mean(0)
    scatter = x.var(0).mean() * np.eye(4) + centred.T @ centred
    df = 6 + 50 - 3
    law = multivariate_t(mean, scatter * (52 / 51) / df, df)
    assert PredictiveDensity(bank(50))(new) == pytest.approx(-law.logpdf(new), rel=1e-6)


def test_with_many_images_it_orders_as_the_mahalanobis_distance():
    x, new = bank(5000), bank(300, 1)
    assert spearmanr(PredictiveDensity(x)(new), Mahalanobis(x)(new)).statistic > 0.999


def test_far_features_score_higher_and_fewer_images_than_features_are_enough():
    rng = np.random.default_rng(0)
    few, near = rng.normal(size=(2, 10, 30))
    detector = PredictiveDensity(few)
    assert detector(10 * near).min() > detector(near).max()


def test_features_that_do_not_differ():
    with pytest.raises(ValueError, match="not positive definite"):
        PredictiveDensity(np.ones((5, 2)))
