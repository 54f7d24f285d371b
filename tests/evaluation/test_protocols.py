import numpy as np
import pytest
import torch

from vje_pyro.errors import DataError
from vje_pyro.evaluation import PROTOCOLS, Features, Result, evaluate
from vje_pyro.evaluation.knn import knn_accuracy


def split(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 5
    x = 2 * np.eye(5, 8)[y] + rng.normal(size=(n, 8))
    return Features(x.astype(np.float32), y, f"digest {seed}")


@pytest.fixture(scope="module")
def splits():
    return split(300, 0), split(120, 1)


ABOUT = {"dataset": "blobs", "method": "vje", "features": "encoder"}


def test_every_protocol_gives_a_result_that_round_trips(splits, tmp_path):
    train, test = splits
    results = evaluate(train, test, **ABOUT, seed=7, config={"lr": 0.1}, protocols=list(PROTOCOLS))
    assert [r.protocol for r in results] == list(PROTOCOLS)
    for r in results:
        assert Result.read(r.write(tmp_path / r.filename)) == r
        assert (r.method, r.features, r.seed, r.config) == ("vje", "encoder", 7, {"lr": 0.1})
        assert r.dataset["digest"] == {"train": "digest 0", "test": "digest 1"}
        assert (r.dataset["train"], r.dataset["test"], r.dataset["classes"]) == (300, 120, 5)
        assert r.wall_time_s > 0
        for name, figure in r.figures.items():
            assert figure.low < figure.value < figure.high
            assert figure.low > 0.4 or not name.startswith("accuracy")
    assert len({r.filename for r in results}) == len(PROTOCOLS)


def test_figures_and_settings(splits):
    train, test = splits
    knn, linear, few = evaluate(train, test, **ABOUT)
    tensors = [torch.from_numpy(a) for a in (train.x, train.y, test.x, test.y)]
    assert knn.figures["accuracy"].value == pytest.approx(knn_accuracy(*tensors))
    assert knn.settings == {"k": 20, "temperature": 0.1}
    assert linear.settings == {"C": 1.0, "tolerance": 1e-4}
    assert linear.details["iterations"] > 1
    assert linear.figures["accuracy"].interval == "95% bootstrap over test images"
    assert list(few.figures) == ["accuracy_1", "accuracy_5", "accuracy_10"]
    assert few.figures["accuracy_5"].value == pytest.approx(np.mean(few.details["draws_5"]))
    assert few.figures["accuracy_5"].interval == "95% t-interval over 10 draws, logit scale"


def test_unknown_protocol(splits):
    with pytest.raises(ValueError, match=r"\['knn-v9'\]; choose from \['knn-v1'"):
        evaluate(*splits, **ABOUT, protocols=["knn-v1", "knn-v9"])


def test_unlabelled_images(splits):
    train, test = splits
    unlabelled = Features(train.x, np.where(train.y == 2, -1, train.y))
    (result,) = evaluate(unlabelled, test, **ABOUT, protocols=["knn-v1"])
    assert (result.dataset["train"], result.dataset["test"]) == (240, 96)
    assert result.dataset["classes"] == 4
    why = "they have no label of the training split's classes"
    assert result.details["left_out"] == {
        "60 of 300 images of the train split": why,
        "24 of 120 images of the test split": why,
    }
    nothing = Features(train.x, np.full(len(train), -1))
    with pytest.raises(DataError, match="no image of the train split has a label"):
        evaluate(nothing, test, **ABOUT)


def test_a_class_unknown_in_training_is_left_out(splits):
    train, test = splits
    others = Features(test.x, np.where(test.y == 4, 9, test.y))
    (result,) = evaluate(train, others, **ABOUT, protocols=["knn-v1"])
    assert result.dataset["test"] == 96
    assert list(result.details["left_out"]) == ["24 of 120 images of the test split"]


def test_a_single_class_is_refused(splits):
    train, test = splits
    one = Features(train.x, np.zeros(len(train), np.int64))
    with pytest.raises(DataError, match="single class: at least two classes are needed"):
        evaluate(one, Features(test.x, np.zeros(len(test), np.int64)), **ABOUT)


@pytest.mark.parametrize("protocol", ["few-label-v1", "bayes-heads-v1"])
def test_a_rare_class_leaves_out_only_what_needs_more(splits, protocol):
    train, test = splits
    kept = (train.y != 2) | (np.cumsum(train.y == 2) <= 3)
    (result,) = evaluate(train.subset(kept), test, **ABOUT, protocols=[protocol])
    assert {name.rsplit("_", 1)[1] for name in result.figures} == {"1"}
    assert result.details["left_out"] == {
        "accuracy_5": "class 2 has 3 training images",
        "accuracy_10": "class 2 has 3 training images",
    }


def test_a_small_bank_and_features_that_are_all_alike_have_figures(splits):
    train, test = splits
    few = train.subset(np.arange(len(train)) < 7)
    (result,) = evaluate(few, test, **ABOUT, protocols=["knn-v1"])
    assert result.settings["k"] == 7
    alike = Features(np.ones_like(train.x), train.y), Features(np.ones_like(test.x), test.y)
    for result in evaluate(*alike, **ABOUT):
        assert all(0 <= f.value <= 1 for f in result.figures.values())


def test_splits_that_do_not_fit(splits):
    train, test = splits
    with pytest.raises(DataError, match="8 dimensions and test features 6"):
        evaluate(train, Features(test.x[:, :6], test.y), **ABOUT)
    with pytest.raises(DataError, match="test split is empty"):
        evaluate(train, Features(test.x[:0], test.y[:0]), **ABOUT)
