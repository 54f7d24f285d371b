import numpy as np
import pytest
from scipy.stats import kstest

from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation.p_values import ConformalPValue


def test_by_counting():
    calibration = np.array([3.0, 1.0, 2.0, 2.0])
    scores = np.array([0.0, 2.0, 2.5, 3.0, 4.0, np.inf])
    expected = [(1 + (calibration >= score).sum()) / 5 for score in scores]
    assert ConformalPValue(calibration)(scores).tolist() == expected


def test_uniform_in_distribution_and_never_too_many_alarms():
    rng = np.random.default_rng(0)
    p = ConformalPValue(rng.standard_t(3, 4000))(rng.standard_t(3, 4000))
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)
    # Over many calibrations, even of few images, the level holds on average.
    small = [ConformalPValue(rng.normal(size=19))(rng.normal(size=20)) for _ in range(2000)]
    assert np.mean(np.stack(small) <= 0.05) == pytest.approx(0.05, abs=0.005)


def test_bad_scores():
    with pytest.raises(ValueError, match="calibration images must be a non-empty vector"):
        ConformalPValue([])
    with pytest.raises(NonFiniteError, match="1 of 2 calibration images"):
        ConformalPValue([1.0, np.nan])
