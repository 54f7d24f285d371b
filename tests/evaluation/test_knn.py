import math

import numpy as np
import pytest
import torch

from vje_pyro.evaluation import knn
from vje_pyro.evaluation.knn import default_k, knn_accuracy, knn_predict


def reference(train_x, train_y, test_x, k, temperature, num_classes):
    """The definition, one image and one neighbour at a time, in float64."""
    predictions = []
    for query in test_x:
        similarity = [
            float(query @ x / (np.linalg.norm(query) * np.linalg.norm(x))) for x in train_x
        ]
        nearest = sorted(range(len(train_x)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * num_classes
        for i in nearest:
            votes[train_y[i]] += math.exp(similarity[i] / temperature)
        predictions.append(votes.index(max(votes)))
    return predictions


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(4, 6, generator=generator)
    train_y = torch.arange(60) % 4
    test_y = torch.arange(25) % 4
    train_x = centres[train_y] + torch.randn(60, 6, generator=generator)
    test_x = centres[test_y] + torch.randn(25, 6, generator=generator)
    return train_x, train_y, test_x, test_y


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 2.0])
def test_agrees_with_the_definition(data, k, temperature):
    train_x, train_y, test_x, _ = data
    expected = reference(
        train_x.double().numpy(), train_y.tolist(), test_x.double().numpy(), k, temperature, 4
    )
    predicted = knn_predict(train_x, train_y, test_x, k, temperature)
    assert predicted.tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    ("k", "temperature", "expected"),
    # Cosines 1, 1/2, 0 with classes 0, 1, 1: e^10 > e^5 + e^0, but e^0.1 < e^0.05 + e^0.
    [(3, 0.1, 0), (3, 10.0, 1), (1, 10.0, 0)],
)
def test_by_hand(k, temperature, expected):
    bank = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2], [0.0, 1.0]])
    query = torch.tensor([[2.0, 0.0]])
    assert knn_predict(bank, torch.tensor([0, 1, 1]), query, k, temperature).item() == expected


def test_only_directions_count(data):
    train_x, train_y, test_x, _ = data
    scale = torch.rand(60, 1) * 100 + 0.01
    expected = knn_predict(train_x, train_y, test_x, 9)
    assert torch.equal(knn_predict(scale * train_x, train_y, 1e-3 * test_x, 9), expected)


def test_order_of_the_bank_does_not_matter(data):
    train_x, train_y, test_x, _ = data
    order = torch.randperm(60)
    expected = knn_predict(train_x, train_y, test_x, 9)
    assert torch.equal(knn_predict(train_x[order], train_y[order], test_x, 9), expected)


def test_chunks_do_not_matter(data, monkeypatch):
    train_x, train_y, test_x, _ = data
    expected = knn_predict(train_x, train_y, test_x, 9)
    monkeypatch.setattr(knn, "_SIMILARITIES", 60 * 4)
    assert torch.equal(knn_predict(train_x, train_y, test_x, 9), expected)


def test_classes_that_tie_go_to_the_lowest():
    bank = torch.tensor([[0.6, 0.8], [0.6, -0.8]])
    assert knn_predict(bank, torch.tensor([2, 1]), torch.tensor([[1.0, 0.0]]), 2).item() == 1


def test_single_class():
    x = torch.randn(30, 3)
    assert knn_accuracy(x, torch.zeros(30, dtype=torch.int64), x, torch.zeros(30).long()) == 1.0


def test_low_temperature_is_the_nearest_neighbour(data):
    train_x, train_y, test_x, _ = data
    nearest = knn_predict(train_x, train_y, test_x, 1)
    assert torch.equal(knn_predict(train_x, train_y, test_x, 60, temperature=1e-6), nearest)


def test_half_precision_features_are_compared_in_float32(data):
    train_x, train_y, test_x, _ = (t.bfloat16() if t.is_floating_point() else t for t in data)
    expected = knn_predict(train_x.float(), train_y, test_x.float(), 9)
    assert torch.equal(knn_predict(train_x, train_y, test_x, 9), expected)


def test_accuracy_counts_hits_and_uses_the_protocols_k(data):
    train_x, train_y, test_x, test_y = data
    hits = knn_predict(train_x, train_y, test_x, 20, 0.1) == test_y
    assert 0 < hits.sum() < 25
    accuracy = knn_accuracy(train_x, train_y, test_x, test_y)
    assert accuracy == pytest.approx(hits.sum().item() / 25)


def test_default_k():
    assert [default_k(n) for n in (100, 19_999, 20_000, 50_000)] == [20, 20, 200, 200]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 61}, r"k = 61 for 60 images"),
        ({"k": 0}, r"k = 0 for 60 images"),
        ({"temperature": 0.0}, r"positive, got 0\.0"),
        ({"num_classes": 3}, r"0 … 2, found 0 … 3"),
        ({"train_y": torch.arange(60) - 1}, r"-1 means unlabelled"),
        ({"train_y": torch.arange(59)}, r"60 bank images, got shape \(59,\)"),
        ({"test_x": torch.zeros(2, 5)}, r"\(60, 6\) and \(2, 5\)"),
    ],
)
def test_bad_arguments(data, changes, message):
    train_x, train_y, test_x, _ = data
    arguments = {"train_x": train_x, "train_y": train_y, "test_x": test_x, "k": 5} | changes
    with pytest.raises(ValueError, match=message):
        knn_predict(**arguments)


def test_accuracy_of_nothing(data):
    train_x, train_y, test_x, test_y = data
    with pytest.raises(ValueError, match="at least 1"):
        knn_accuracy(train_x, train_y, test_x[:0], test_y[:0])
