import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vje_pyro.evaluation.few_label import draw, few_label_accuracies

LABELS = np.repeat(np.arange(4), [12, 30, 18, 40])


@pytest.mark.parametrize("per_class", [1, 5, 12])
def test_draws_are_balanced_and_without_repetition(per_class):
    for seed in range(5):
        chosen = draw(LABELS, per_class, seed)
        assert np.bincount(LABELS[chosen]).tolist() == [per_class] * 4
        assert len(set(chosen.tolist())) == 4 * per_class


def test_draws_differ_by_seed_and_repeat_with_it():
    draws = [tuple(draw(LABELS, 5, seed)) for seed in range(10)]
    assert len(set(draws)) == 10
    assert tuple(draw(LABELS, 5, 3)) == draws[3]


def test_every_image_can_be_drawn():
    drawn = np.concatenate([draw(LABELS, 5, seed) for seed in range(200)])
    assert set(drawn.tolist()) == set(range(100))


@pytest.mark.parametrize("per_class", [0, 13])
def test_too_few_images_of_a_class(per_class):
    with pytest.raises(ValueError, match=rf"{per_class} labels per class: class 0 has 12"):
        draw(LABELS, per_class, seed=0)


def test_labels_outside_the_draw_are_not_used(monkeypatch):
    """Wrong labels on every image that is not drawn change nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6)).astype(np.float32) + 2 * np.eye(4, 6)[LABELS]
    test_x, test_y = x[::2] + 0.1, LABELS[::2]
    expected = few_label_accuracies(x, LABELS, test_x, test_y, labels_per_class=[5], draws=1)
    chosen = draw(LABELS, 5, 0)
    wrong = (LABELS + 1) % 4
    wrong[chosen] = LABELS[chosen]
    monkeypatch.setattr("vje_pyro.evaluation.few_label.draw", lambda *_: chosen)
    assert few_label_accuracies(x, wrong, test_x, test_y, labels_per_class=[5], draws=1) == expected
    assert 0.4 < expected[5][0] < 1


def test_raw_pixels_of_digits():
    """Known: about 0.83 with 5 labels per class on the stratified 80/20 split."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=0
    )
    accuracies = few_label_accuracies(train_x, train_y, test_x, test_y)
    means = {m: float(np.mean(values)) for m, values in accuracies.items()}
    assert {m: len(values) for m, values in accuracies.items()} == {1: 10, 5: 10, 10: 10}
    assert 0.80 < means[5] < 0.86
    assert means[1] < means[5] < means[10]
    assert 0.50 < means[1] < 0.65
