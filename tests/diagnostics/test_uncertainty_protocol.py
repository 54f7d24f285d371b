import numpy as np
import pytest

from vje_pyro.diagnostics.uncertainty_protocol import (
    crop_figure,
    nearest_neighbour_errors,
    r_auroc_figures,
    selective_details,
    selective_figures,
)
from vje_pyro.errors import NonFiniteError, VJEError
from vje_pyro.scores import aurc, aurc_figure, optimal_aurc

RNG = np.random.default_rng(0)
ERRORS = RNG.random(200) < 0.3
VALUES = RNG.normal(size=200) + ERRORS


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
    monkeypatch.setattr("vje_pyro.diagnostics.uncertainty_protocol._QUERIES", 7)
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
