import numpy as np
import pytest
from scipy.stats import gaussian_kde, kstest, norm

from vje_pyro.errors import DataError, NonFiniteError
from vje_pyro.evaluation.density_of_states import DensityOfStates


def statistics(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {
        "kl": 100 + 5 * rng.normal(size=n) + shift,
        "norm": rng.gamma(20, size=n),
        "constant": np.full(n, 3.0),
    }


def test_score_is_minus_the_sum_of_log_densities():
    train, new = statistics(4000, 0), statistics(50, 1)
    detector = DensityOfStates(train, statistics(100, 2))
    assert set(detector.densities) == {"kl", "norm"}
    expected = sum(-gaussian_kde(train[k], 4000**-0.2 * 0.9).logpdf(new[k]) for k in ("kl", "norm"))
    assert detector(new) == pytest.approx(expected, abs=0.1)
    one = DensityOfStates({"kl": train["kl"]}, {"kl": new["kl"]})
    middle = np.linspace(90, 110, 30)
    assert one({"kl": middle}) == pytest.approx(-norm(100, 5).logpdf(middle), abs=0.2)


@pytest.mark.parametrize("shift", [-60.0, 60.0])
def test_two_sided_and_ordered_however_far(shift):
    detector = DensityOfStates(statistics(500, 0), statistics(500, 1))
    near, far, farther = (detector(statistics(20, 2, k * shift)) for k in (0, 1, 10))
    assert far.min() > near.max()
    assert farther.min() > far.max()
    assert np.isfinite(farther).all()
    assert (detector.p_value(far) == 1 / 501).all()


def test_p_values_are_uniform_in_distribution():
    detector = DensityOfStates(statistics(1000, 0), statistics(4000, 1))
    p = detector.p_value(detector(statistics(4000, 2)))
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_outliers_among_training_images_do_not_widen_the_density():
    train = statistics(1000, 0)
    train["kl"][:3] = 1e6
    detector = DensityOfStates(train, statistics(500, 1))
    assert detector.p_value(detector(statistics(20, 2, 60.0))).max() < 0.05


def test_infinite_statistics_are_outliers_not_errors():
    train, new = statistics(500, 0), statistics(3, 1)
    train["kl"][0] = np.inf
    new["kl"][1] = np.inf
    scores = DensityOfStates(train, statistics(500, 2))(new)
    assert np.isinf(scores).tolist() == [False, True, False]


def test_bad_statistics():
    with pytest.raises(DataError, match=r"none of the statistics \['a'\] differs"):
        DensityOfStates({"a": np.ones(5)}, {"a": np.ones(5)})
    with pytest.raises(NonFiniteError, match=r"1 of 5 training images \(a\) have a NaN"):
        DensityOfStates({"a": np.array([1, 2, np.nan, 3, 4])}, {"a": np.ones(5)})
