import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vje_pyro.errors import DataError, NonFiniteError
from vje_pyro.evaluation.one_class_protocol import one_class_figures

LABELS = np.arange(90) % 3
RNG = np.random.default_rng(0)


def tables(classes=(0, 1, 2), labels=LABELS):
    return {c: {"a": (labels != c) + RNG.normal(size=len(labels))} for c in classes}


def test_auroc_of_each_class_and_their_mean():
    scores = tables()
    figures = one_class_figures(scores, LABELS)
    assert set(figures) == {"auroc_a", "auroc_a_0", "auroc_a_1", "auroc_a_2"}
    each = [roc_auc_score(c != LABELS, scores[c]["a"]) for c in range(3)]
    for c in range(3):
        figure = figures[f"auroc_a_{c}"]
        assert figure.value == pytest.approx(each[c])
        assert figure.low < figure.value < figure.high
    mean = figures["auroc_a"]
    assert mean.value == pytest.approx(np.mean(each))
    widths = [figures[f"auroc_a_{c}"].high - figures[f"auroc_a_{c}"].low for c in range(3)]
    assert 0 < mean.high - mean.low < max(widths)


def test_the_chance_in_the_images_is_shared():
    """Three models that say the same have the interval of one, not of three."""
    values = RNG.normal(size=90) + LABELS
    labels = np.array([0] * 45 + [1] * 45)
    scores = {0: {"a": values}, 1: {"a": -values}}
    figures = one_class_figures(scores, labels)
    assert figures["auroc_a_0"].value == pytest.approx(figures["auroc_a_1"].value)
    assert figures["auroc_a"].low == pytest.approx(figures["auroc_a_0"].low)
    assert figures["auroc_a"].high == pytest.approx(figures["auroc_a_1"].high)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(90, int), "two classes or more, got the classes"),
        (LABELS - 1, "labelled test split"),
        (LABELS % 2, r"no image of the classes \[2\]"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(DataError, match=message):
        one_class_figures(tables(), labels)


def test_bad_scores():
    with pytest.raises(ValueError, match="same scores of all 90 test images"):
        one_class_figures(tables() | {1: {"b": np.zeros(90)}}, LABELS)
    with pytest.raises(NonFiniteError):
        one_class_figures(tables() | {1: {"a": np.full(90, np.nan)}}, LABELS)
