import numpy as np
import pytest
import torch

from vje_pyro.evaluation.calibration import BINS, expected_calibration_error


def test_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [1.0, 0.0]])
    y = np.array([0, 1, 1, 0])
    # Bins of 1/5: the two of 0.9 share [0.8, 1] with that of 1; 0.65 is alone.
    expected = (abs(0.9 + 0.9 + 1 - 2) + abs(0.65 - 1)) / 4
    assert expected_calibration_error(p, y, bins=5) == pytest.approx(expected)


def test_right_probabilities_have_a_small_error_and_sharpened_ones_a_large():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0, 1.0], 40_000)
    y = (rng.random((len(p), 1)) > p.cumsum(1)).sum(1)
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    assert expected_calibration_error(p, y) < 0.01
    assert expected_calibration_error(sharp, y) > 0.15


def test_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(1)
    p, y = rng.dirichlet([0.5] * 4, 500), rng.integers(0, 4, 500)
    reference = functional.multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(y), num_classes=4, n_bins=BINS, norm="l1"
    )
    assert expected_calibration_error(p, y) == pytest.approx(reference.item(), abs=1e-6)
