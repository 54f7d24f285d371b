import numpy as np
import pytest
import torch

from vje_pyro.inference import VarianceCovariance


def test_it_is_the_formula_on_numpys_covariance():
    torch.manual_seed(0)
    x = torch.randn(40, 5, dtype=torch.float64) @ torch.randn(5, 5).double() * 0.4
    c = np.cov(x.numpy().T)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).sum()
    correlated = (c**2).sum() - (np.diag(c) ** 2).sum()
    value = VarianceCovariance(weight=3.0)(x).item()
    assert value == pytest.approx(3 * (hinge + correlated) / 5, rel=1e-10)
    assert hinge > 0.1
    assert correlated > 0.1


def test_white_data_cost_nothing():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double() * 3**0.5 / 2 * 1.01
    assert VarianceCovariance(weight=1.0)(x).item() == pytest.approx(0, abs=1e-12)
