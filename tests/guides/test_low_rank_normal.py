import pytest
import torch
from pyro.distributions import Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence

from vje_pyro.guides import LowRankNormal


def test_the_kl_to_a_diagonal_gaussian_is_that_of_full_matrices():
    torch.manual_seed(0)
    p, scale = (
        LowRankNormal(8, rank=2, hidden_features=16).double().infer(torch.randn(5, 8).double())
    )
    q = Independent(Normal(torch.randn(8).double(), torch.rand(8).double() + 0.5), 1)
    full = MultivariateNormal(q.mean, q.stddev.square().diag())
    by_matrices = kl_divergence(MultivariateNormal(p.loc, p.covariance_matrix), full)
    torch.testing.assert_close(kl_divergence(p, q), by_matrices)
    torch.testing.assert_close(scale.square(), p.covariance_matrix.diagonal(dim1=-2, dim2=-1))


def test_rank_is_the_number_of_directions_that_vary_together():
    p = LowRankNormal(8, rank=3, hidden_features=16).infer(torch.randn(6, 8)).posterior
    assert p.cov_factor.shape == (6, 8, 3)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        LowRankNormal(8, rank=0)
