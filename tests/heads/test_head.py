"""What both heads promise: the interface, the limit of points, and clear errors."""

import numpy as np
import pytest
from sklearn.base import clone

from vje_pyro.errors import DataError, NonFiniteError
from vje_pyro.heads import GaussianHead, LaplaceHead

HEADS = pytest.mark.parametrize("head", [GaussianHead(), LaplaceHead()], ids=["niw", "laplace"])


@HEADS
@pytest.mark.parametrize("num_classes", [2, 4])
def test_interface(head, problem, few, num_classes):
    task = problem(num_classes)
    x, y = task.images(400)
    labels = 10 * y + 3
    known = np.where(few(y, 5) >= 0, labels, -1)
    head = clone(head).fit(x, known)
    new, target = task.images(200)
    p = head.predict_proba(new)
    assert head.classes_.tolist() == (10 * np.arange(num_classes) + 3).tolist()
    assert p.shape == (200, num_classes)
    assert p.sum(1) == pytest.approx(1)
    assert np.exp(head.log_predictive(new)) == pytest.approx(p)
    assert (head.predict(new) == head.classes_[p.argmax(1)]).all()
    assert head.score(new, 10 * target + 3) > 0.9 if num_classes == 2 else 0.75
    assert (head.predict_proba(new) == p).all()  # draws are seeded
    assert clone(head).fit(x, known).predict_proba(new) == pytest.approx(p)


@HEADS
def test_posteriors_of_no_variance_are_points(head, problem, few):
    task = problem()
    x, y = task.images(200)
    known = few(y, 3)
    points = clone(head).fit(x, known).predict_proba(x)
    exact = clone(head).fit((x, 0 * x), known).predict_proba((x, 0 * x))
    nearly = clone(head).fit((x, 0 * x + 1e-5), known).predict_proba((x, 0 * x + 1e-5))
    assert (exact == points).all()
    assert nearly == pytest.approx(points, abs=1e-3)


@HEADS
def test_the_wider_the_posterior_the_less_certain_the_class(head, problem, few):
    task = problem()
    x, y = task.images(400)
    head, new = clone(head).fit(x, few(y, 10)), task.images(100)[0]

    def certainty(scale):
        p = head.predict_proba((new, 0 * new + scale))
        return (p * np.log(p + 1e-12)).sum(1).mean()

    assert certainty(0.0) > certainty(0.5) > certainty(2.0)


@HEADS
def test_images_with_less_certain_posteriors_get_less_certain_classes(head, problem, few):
    task = problem()
    x, y = task.images(400)
    scale = np.where(np.arange(len(x)) % 3 == 0, 3.0, 0.1)[:, None] * np.ones_like(x)
    p = clone(head).fit((x, scale), few(y, 20)).predict_proba((x, scale))
    assert p[::3].max(1).mean() < p[1::3].max(1).mean() - 0.1


@HEADS
def test_unlabelled_images_count(head, problem, few):
    task = problem()
    x, y = task.images(400)
    known = few(y, 2)
    labelled = known >= 0
    alone = clone(head).fit(x[labelled], known[labelled]).predict_proba(x)
    helped = clone(head).fit(x, known).predict_proba(x)
    assert not np.allclose(alone, helped, atol=0.01)
    wrong = clone(head).fit(x, np.where(labelled, y, -1)).predict_proba(x)
    assert (wrong == helped).all()  # and only their labels are not looked at


@HEADS
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": [0, 0, -1, -1]}, DataError, r"needs two, got \[0\]"),
        ({"y": [-1, -1, -1, -1]}, DataError, r"needs two, got \[\]"),
        ({"classes": [0, 1, 2], "y": [0, 1, -1, 1]}, DataError, r"none of the classes \[2\]"),
        ({"classes": range(9)}, DataError, r"3 labelled images for 9 classes: .*\[2, 3, 4, 5"),
        ({"classes": [0, 1], "y": [0, 1, 5, -3]}, DataError, r"labels \[-3, 5\] are none"),
        ({"y": [0, 1, 1]}, ValueError, r"4 images need as many .*int64 of shape \(3,\)"),
        ({"y": [0.0, 1.0, 1.0, 0.0]}, ValueError, "whole numbers as labels, got float64"),
        ({"x": np.ones(4)}, ValueError, r"matrix \(N, D\)"),
        ({"x": np.full((4, 2), np.nan)}, NonFiniteError, "4 of 4 images"),
        ({"x": np.ones((4, 2))}, DataError, "all 4 images have the same features"),
        ({"num_samples": 0}, ValueError, "num_samples"),
    ],
)
def test_bad_input_of_fit(head, change, error, message):
    x, y = np.arange(8.0).reshape(4, 2) ** 1.5, [0, 1, 1, -1]
    head = clone(head).set_params(**{k: v for k, v in change.items() if k not in ("x", "y")})
    with pytest.raises(error, match=message):
        head.fit(change.get("x", x), np.array(change.get("y", y)))


@HEADS
def test_bad_input_of_predict(head):
    x = np.arange(8.0).reshape(4, 2) ** 1.5
    with pytest.raises(ValueError, match="not fitted"):
        clone(head).predict(x)
    fitted = clone(head).fit(x, np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="fitted to 2 features, but the images have 3"):
        fitted.predict(np.ones((4, 3)))
    with pytest.raises(NonFiniteError, match="first is image 0"):
        fitted.predict_proba(np.full((1, 2), np.inf))


@HEADS
@pytest.mark.parametrize("n", [2, 3])
def test_one_image_a_class_and_no_others(head, n):
    x = np.eye(n, 20) * 3.0
    p = clone(head).fit(x, np.arange(n)).predict_proba(x)
    assert (p.argmax(1) == np.arange(n)).all()
    assert np.isfinite(p).all()


@HEADS
def test_constant_features_and_features_of_other_sizes(head, problem, few):
    task = problem()
    x, y = task.images(300)
    wide = np.column_stack([1e4 * x, np.full(len(x), 7.0), 1e-4 * x[:, :2]])
    assert clone(head).fit(wide, few(y, 20)).score(wide, y) > 0.8
