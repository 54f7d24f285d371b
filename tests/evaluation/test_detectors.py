import builtins

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Features, scorer
from vje_pyro.evaluation import labelled_detectors as labelled
from vje_pyro.evaluation.detectors import KNNDistance, Mahalanobis
from vje_pyro.evaluation.linear import fit_linear
from vje_pyro.evaluation.scorer import feature_detectors


def blobs(n=120, classes=3, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return Features((3 * np.eye(classes, dim)[y] + rng.normal(size=(n, dim))).astype("f"), y)


FAR = np.full((5, 6), 9.0, np.float32) * np.array([1, -1, 1, -1, 1, -1], np.float32)


def test_knn_distance_is_the_kth_cosine_distance():
    bank, x = blobs().x, blobs(7, seed=1).x
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (bank, x)]
    expected = np.sort(1 - unit[1] @ unit[0].T, axis=1)[:, 4]
    assert KNNDistance(bank, k=5)(x) == pytest.approx(expected, abs=1e-6)
    assert KNNDistance(bank).k == 20
    assert KNNDistance(bank[:8]).k == 8
    assert KNNDistance(bank, k=1)(bank) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("k", [0, 121])
def test_knn_distance_refuses_impossible_neighbours(k):
    with pytest.raises(ValueError, match=f"bank's 120 images, got {k}"):
        KNNDistance(blobs().x, k=k)


def test_mahalanobis_is_the_formula():
    bank, x = blobs(400).x, blobs(7, seed=1).x
    detector = Mahalanobis(bank)
    difference = x - bank.mean(0)
    covariance = detector.gaussian.covariance_
    expected = np.einsum("ni,ij,nj->n", difference, np.linalg.inv(covariance), difference)
    assert detector(x) == pytest.approx(expected, rel=1e-4)
    assert np.diag(covariance) == pytest.approx(bank.var(0), rel=0.2)  # shrunk a little


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probe_as_a_layer_and_its_entropy(classes):
    train, x = blobs(classes=classes), blobs(9, seed=1).x
    probe = fit_linear(train.x, train.y)
    logits = labelled.probe_head(probe)(torch.from_numpy(x)).numpy()
    expected = probe.classifier.predict_proba(probe.scaler.transform(x))
    assert softmax(logits, axis=1) == pytest.approx(expected, abs=1e-5)
    assert labelled.probe_entropy(probe)(x) == pytest.approx(entropy(expected, axis=1), abs=1e-5)


def test_every_detector_scores_far_images_higher():
    pytest.importorskip("pytorch_ood", reason="pytorch-ood is an extra")
    train, near = blobs(), blobs(60, seed=1).x
    detectors = feature_detectors(train)
    assert list(detectors) == ["knn", "mahalanobis", "niw", "probe-entropy", *labelled.PYTORCH_OOD]
    for name in ("knn", "mahalanobis", "niw", "class-mahalanobis", "rmd", "vim"):
        assert detectors[name](FAR).min() > np.quantile(detectors[name](near), 0.9), name
    for detect in detectors.values():
        assert detect(near).shape == (60,)
        assert detect(near).dtype == np.float64


def test_class_mahalanobis_by_hand():
    pytest.importorskip("pytorch_ood", reason="pytorch-ood is an extra")
    train, x = blobs(), blobs(9, seed=1).x
    score = feature_detectors(train)["class-mahalanobis"](x)
    means = np.stack([train.x[train.y == c].mean(0) for c in range(3)])
    centred = train.x - means[train.y]
    inverse = np.linalg.inv(centred.T @ centred)
    distances = [np.einsum("ni,ij,nj->n", x - m, inverse, x - m) for m in means]
    assert score == pytest.approx(np.min(distances, axis=0) / 2, rel=1e-3)


@pytest.mark.parametrize("labels", [np.zeros(120, int), np.arange(120) % 3 - 1])
def test_without_labels_or_classes_only_distances_are_left(labels):
    assert list(feature_detectors(Features(blobs().x, labels))) == ["knn", "mahalanobis", "niw"]
    assert list(feature_detectors(blobs(), labelled=False)) == ["knn", "mahalanobis", "niw"]


def test_without_the_extra(monkeypatch, caplog):
    real = builtins.__import__

    def missing(name, *rest, **named):
        if name.startswith("pytorch_ood"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    train = blobs()
    with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[ood\]'"):
        labelled.pytorch_ood_detectors(train, fit_linear(train.x, train.y))
    monkeypatch.setattr("vje_pyro.evaluation.scorer.has_pytorch_ood", lambda: False)
    assert list(feature_detectors(train)) == ["knn", "mahalanobis", "niw", "probe-entropy"]
    assert "vje-pyro[ood]" in caplog.text


def test_what_cannot_be_fitted_is_named_where_that_is_asked(monkeypatch):
    monkeypatch.setattr(scorer, "has_pytorch_ood", lambda: False)
    alike = Features(np.ones((12, 4), np.float32), np.arange(12) % 2)
    left_out = {}
    detectors = feature_detectors(alike, left_out=left_out)
    assert {"knn", "mahalanobis", "probe-entropy"} <= set(detectors)
    assert list(left_out) == ["niw"]
    with pytest.raises(ValueError, match="not positive definite"):
        feature_detectors(alike)
