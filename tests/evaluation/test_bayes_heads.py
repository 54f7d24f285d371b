import numpy as np
import pytest

from vje_pyro.errors import DataError
from vje_pyro.evaluation import Features, evaluate
from vje_pyro.evaluation.bayes_heads import few_label_scores

SPREAD = np.append([1.0] * 4, np.linspace(0.9, 0.1, 46))
CENTRES = 2 * np.eye(4, 50)


def features(n, seed, posterior=True, classes=4):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = (CENTRES[y] + SPREAD * rng.normal(size=(n, 50))).astype(np.float32)
    scale = np.full_like(x, 0.1)
    return Features(x, y, f"digest {seed}", (x, scale) if posterior else None)


@pytest.fixture(scope="module")
def result():
    (result,) = evaluate(
        features(400, 0),
        features(300, 1),
        dataset="blobs",
        method="vje",
        features="encoder",
        protocols=["bayes-heads-v1"],
    )
    return result


def test_figures(result):
    heads = ["logistic-points", "niw-points", "niw-posterior", "laplace-points"]
    names = {
        f"{metric}_{head}_{count}"
        for metric in ("accuracy", "nll", "ece")
        for head in (*heads, "laplace-posterior")
        for count in (1, 5, 10)
    }
    assert set(result.figures) == names
    for name, figure in result.figures.items():
        assert figure.interval.startswith("95% t-interval over 10 draws, lo")
        assert len(result.details[f"draws_{name}"]) == 10
    for head in ("niw-points", "niw-posterior", "laplace-points", "laplace-posterior"):
        nll = [result.figures[f"nll_{head}_{m}"].value for m in (1, 5, 10)]
        assert np.log(4) > nll[0] > nll[1] > nll[2]
        accuracy = result.figures[f"accuracy_{head}_10"].value
        assert accuracy > result.figures["accuracy_logistic-points_10"].value - 0.02
    assert result.settings == {"labels_per_class": [1, 5, 10], "draws": 10, "bins": 15, "C": 1.0}


def test_bayesian_heads_are_better_calibrated_than_logistic_regression(result):
    for metric in ("nll", "ece"):
        reference = result.figures[f"{metric}_logistic-points_10"].value
        assert result.figures[f"{metric}_niw-points_10"].value < reference
    reference = result.figures["accuracy_logistic-points_10"].value
    assert result.figures["accuracy_niw-points_10"].value > reference + 0.1


def test_without_posterior_heads_see_points_only():
    train, test = features(200, 0, posterior=False), features(50, 1, posterior=False)
    scores = few_label_scores(train, test)
    assert {name.split("_")[1] for name in scores} == {
        "logistic-points",
        "niw-points",
        "laplace-points",
    }


def test_labels_that_are_not_drawn_are_not_looked_at(monkeypatch):
    train, test = features(200, 0, posterior=False), features(50, 1, posterior=False)
    chosen = np.concatenate([np.flatnonzero(train.y == c)[:5] for c in range(4)])
    monkeypatch.setattr("vje_pyro.evaluation.bayes_heads.draw", lambda *_: chosen)
    monkeypatch.setattr("vje_pyro.evaluation.bayes_heads.DRAWS", 1)
    wrong = (train.y + 1) % 4
    wrong[chosen] = train.y[chosen]
    assert few_label_scores(Features(train.x, wrong), test) == few_label_scores(train, test)


def test_classes_only_in_the_test_split_are_refused():
    with pytest.raises(DataError, match=r"test split has classes \[3\] that training has not"):
        few_label_scores(features(90, 0, classes=3), features(40, 1))
