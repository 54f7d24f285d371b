import numpy as np
import pytest
from scipy.stats import spearmanr

from vje_pyro.errors import NonFiniteError, VJEError
from vje_pyro.evaluation.risk_coverage import aurc, aurc_figure, optimal_aurc
from vje_pyro.evaluation.uncertainty import (
    calibration_figure,
    crop_figure,
    nearest_neighbour_errors,
    r_auroc_figures,
    selective_details,
    selective_figures,
    spearman_figure,
)

RNG = np.random.default_rng(0)
ERRORS = RNG.random(200) < 0.3
VALUES = RNG.normal(size=200) + ERRORS


def brute_force(errors, values):
    """Mean over coverages of the risk, the average over all orders within ties."""
    total = 0.0
    for count in range(1, len(errors) + 1):
        edge = np.sort(values)[count - 1]
        sure, tied = values < edge, values == edge
        missing = count - sure.sum()
        total += (errors[sure].sum() + missing * errors[tied].mean()) / count
    return total / len(errors)


@pytest.mark.parametrize("decimals", [8, 0])
def test_aurc_is_the_brute_force_formula(decimals):
    values = VALUES.round(decimals)
    assert aurc(ERRORS, values) == pytest.approx(brute_force(ERRORS, values), abs=1e-12)


def test_aurc_between_the_best_and_the_error_rate():
    assert optimal_aurc(ERRORS) == pytest.approx(brute_force(ERRORS, ERRORS.astype(float)))
    assert optimal_aurc(ERRORS) < aurc(ERRORS, VALUES) < ERRORS.mean()
    assert aurc(ERRORS, np.zeros(200)) == pytest.approx(ERRORS.mean())
    assert aurc(ERRORS, -VALUES) > ERRORS.mean()
    order = RNG.permutation(200)
    ties = VALUES.round(0)
    assert aurc(ERRORS[order], ties[order]) == pytest.approx(aurc(ERRORS, ties))


def test_aurc_by_hand():
    assert aurc([False, True, False], [1.0, 2.0, 3.0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


def test_weights_count_images_several_times():
    weights = RNG.integers(0, 3, (2, 200))
    for values in (VALUES, VALUES.round(0)):
        again = [aurc(np.repeat(ERRORS, row), np.repeat(values, row)) for row in weights]
        assert aurc(ERRORS, values, weights) == pytest.approx(again, abs=1e-12)


def test_figures_and_details():
    scores, errors = {"a": VALUES, "b": -VALUES}, {"knn": ERRORS}
    figures = selective_figures(scores, errors)
    assert set(figures) == {"aurc_knn_a", "aurc_knn_b"}
    figure = figures["aurc_knn_a"]
    assert figure == aurc_figure(ERRORS, VALUES)
    assert figure.low < figure.value < figure.high
    draws = [RNG.integers(0, 200, 200) for _ in range(500)]
    expected = np.quantile([aurc(ERRORS[i], VALUES[i]) for i in draws], [0.025, 0.975])
    assert [figure.low, figure.high] == pytest.approx(expected, abs=0.02)
    details = selective_details(errors)
    assert details == {
        "error_knn": ERRORS.mean(),
        "best_aurc_knn": pytest.approx(optimal_aurc(ERRORS)),
    }


def test_aurc_of_bad_input():
    with pytest.raises(ValueError, match="boolean vector of 200 images"):
        aurc(ERRORS.astype(float), VALUES)
    with pytest.raises(ValueError, match="boolean vector of 3 images"):
        aurc(ERRORS, VALUES[:3])
    with pytest.raises(NonFiniteError, match="NaN score"):
        aurc([True, False], [0.0, np.nan])


@pytest.mark.parametrize("decimals", [8, 0])
def test_spearman_is_that_of_scipy(decimals):
    other = (VALUES + RNG.normal(size=200)).round(decimals)
    figure = spearman_figure(VALUES, other)
    assert figure.value == pytest.approx(spearmanr(VALUES, other).statistic, abs=1e-12)
    assert figure.low < figure.value < figure.high
    assert spearman_figure(VALUES, -VALUES).value == pytest.approx(-1)


def test_spearman_resamples_all_values_of_an_image_together():
    image = RNG.normal(size=(60, 1))
    severity = np.tile(np.arange(6.0), (60, 1))
    values = 3 * image + severity
    figure = spearman_figure(values, severity)
    assert figure.n == 60
    assert figure.value == pytest.approx(spearmanr(values.ravel(), severity.ravel()).statistic)
    apart = spearman_figure(values.ravel(), severity.ravel())
    assert apart.n == 360
    assert figure.high - figure.low != pytest.approx(apart.high - apart.low, rel=1e-3)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [([1.0, 2.0], [1.0], "one shape"), ([1.0, 2.0], [3.0, 3.0], "differ; all are 3")],
)
def test_spearman_of_bad_input(one, two, message):
    with pytest.raises(ValueError, match=message):
        spearman_figure(one, two)


def test_calibration_error():
    images = np.repeat(np.arange(2000), 2)
    uniform = RNG.random(4000)
    assert calibration_figure(uniform, images).value < 0.01
    # All predictions far too wide: every central interval but none of the tails is hit.
    centre = calibration_figure(np.full(10, 0.5), np.arange(10))
    assert centre.value == pytest.approx(np.mean(1 - np.arange(1, 20) / 20))
    assert (centre.n, centre.low) == (10, pytest.approx(centre.value))
    edge = calibration_figure(np.ones(10), np.arange(10))
    assert edge.value == pytest.approx(np.mean(np.arange(1, 20) / 20))
    with pytest.raises(ValueError, match="vectors alike"):
        calibration_figure(uniform, images[:5])


# ------------------------------------------------------------------- neighbours and crops


def test_nearest_neighbours_are_those_of_a_double_loop(monkeypatch):
    x, y = RNG.normal(size=(60, 4)) * RNG.exponential(size=(60, 1)), RNG.integers(0, 3, 60)
    cosine = [
        [-2.0 if i == j else a @ b / np.linalg.norm(a) / np.linalg.norm(b) for j, b in enumerate(x)]
        for i, a in enumerate(x)
    ]
    expected = y[np.argmax(cosine, axis=1)] != y
    assert 0 < expected.sum() < 60
    assert nearest_neighbour_errors(x, y).tolist() == expected.tolist()
    monkeypatch.setattr("vje_pyro.evaluation.uncertainty._QUERIES", 7)
    assert nearest_neighbour_errors(x, y).tolist() == expected.tolist()


def test_of_equally_near_neighbours_the_first_is_taken():
    x, y = np.ones((4, 3)), np.array([0, 1, 0, 1])
    assert nearest_neighbour_errors(x, y).tolist() == [True, True, False, True]
    # Direction, not distance; and an image of zeros is as far from all.
    x = np.array([[1, 0], [9, 0.1], [0, 1], [0, 0]])
    assert nearest_neighbour_errors(x, [0, 0, 1, 0]).tolist() == [False, False, True, False]


def test_r_auroc_is_the_share_of_pairs_in_the_right_order():
    values = {"sharp": VALUES, "tied": VALUES.round(0), "knows": ERRORS.astype(float)}
    values["nothing"] = np.zeros(200)
    figures = r_auroc_figures(values, ERRORS)
    for name, scores in values.items():
        wrong, right = scores[ERRORS][:, None], scores[~ERRORS]
        pairs = (wrong > right) + 0.5 * (wrong == right)
        assert figures[f"r-auroc_{name}"].value == pytest.approx(pairs.mean(), abs=1e-12)
    assert figures["r-auroc_knows"].low == figures["r-auroc_knows"].value == 1
    assert figures["r-auroc_nothing"].high == figures["r-auroc_nothing"].value == 0.5
    sharp = figures["r-auroc_sharp"]
    assert (sharp.n, sharp.low < sharp.value < sharp.high) == (200, True)


def test_r_auroc_of_one_class_and_of_bad_input():
    one_class = nearest_neighbour_errors(RNG.normal(size=(9, 2)), np.zeros(9))
    with pytest.raises(VJEError, match="all of 9 images have a neighbour of their own class"):
        r_auroc_figures({"a": np.arange(9.0)}, one_class)
    with pytest.raises(VJEError, match="none of 9 images"):
        r_auroc_figures({"a": np.arange(9.0)}, ~one_class)
    with pytest.raises(ValueError, match=r"\(200,\) images wanted, got \(5,\) of a"):
        r_auroc_figures({"a": np.arange(5.0)}, ERRORS)
    with pytest.raises(NonFiniteError, match="NaN score"):
        r_auroc_figures({"a": np.full(200, np.nan)}, ERRORS)
    for x, y in ((np.ones((1, 2)), [0]), (np.ones((3, 2)), [0, 1]), (np.ones(3), [0, 1, 2])):
        with pytest.raises(ValueError, match="of at least two images"):
            nearest_neighbour_errors(x, y)


def test_crops_less_certain_than_their_images():
    whole = RNG.normal(size=50)
    more = whole[:, None] + np.array([0.1, 2.0])
    for crops, rate in ((more, 1), (2 * whole[:, None] - more, 0), (whole[:, None], 0.5)):
        figure = crop_figure(whole, crops)
        assert (figure.low, figure.value, figure.high, figure.n) == (rate, rate, rate, 50)
    # All crops of half the images: pairs, not the two sets, are compared.
    sign = np.where(np.arange(50) < 25, 1, -1)
    figure = crop_figure(100 * whole, 100 * whole[:, None] + sign[:, None])
    assert figure.value == 0.5
    assert figure.low == pytest.approx(0.5 - 1.96 * 0.5 / 50**0.5, abs=0.04)


def test_crops_of_bad_input():
    for whole, crops in ((np.ones(3), np.ones(3)), (np.ones(3), np.ones((2, 4)))):
        with pytest.raises(ValueError, match="crops \\(N, K\\) of images"):
            crop_figure(whole, crops)
    with pytest.raises(NonFiniteError, match="NaN score"):
        crop_figure(np.ones(2), [[1.0], [np.nan]])
