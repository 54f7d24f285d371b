import pytest
import torch
from pyro.distributions import (
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
)
from torch.distributions import kl_divergence

import vje_pyro.distributions  # noqa: F401 – registers the KL

N, D = 3, 4


@pytest.fixture(params=["full", "low_rank"])
def p(request):
    torch.manual_seed(0)
    loc, factor = torch.randn(N, D).double(), torch.randn(N, D, 2).double()
    diagonal = 0.2 + torch.rand(N, D).double()
    if request.param == "low_rank":
        return LowRankMultivariateNormal(loc, factor, diagonal)
    return MultivariateNormal(loc, factor @ factor.mT + diagonal.diag_embed())


QS = {
    "prior": Normal(torch.zeros(D).double(), 1.0),
    "normal": Normal(torch.linspace(-1, 1, D).double(), torch.linspace(0.5, 2, D).double()),
    "laplace": Laplace(torch.zeros(D).double(), 1.5),
}


@pytest.mark.parametrize("name", QS)
def test_it_is_the_mean_of_the_log_ratio(p, name):
    q = Independent(QS[name], 1)
    draws = p.sample((200_000,))
    ratio = p.log_prob(draws) - q.log_prob(draws)
    error = ratio.std(0) / len(draws) ** 0.5
    kl = kl_divergence(p, q)
    assert kl.shape == (N,)
    assert ((kl - ratio.mean(0)).abs() < 5 * error).all()
    assert (error < 0.01 * kl).all()


@pytest.mark.parametrize("name", ["prior", "normal"])
def test_to_a_gaussian_it_is_that_of_full_matrices(p, name):
    q = Independent(QS[name], 1)
    full = MultivariateNormal(q.mean, q.stddev.square().diag())
    expected = kl_divergence(MultivariateNormal(p.mean, p.covariance_matrix), full)
    torch.testing.assert_close(kl_divergence(p, q), expected)


def test_without_correlation_it_is_that_of_the_diagonal():
    loc, scale = torch.randn(N, D).double(), 0.2 + torch.rand(N, D).double()
    q = Independent(QS["normal"], 1)
    full = MultivariateNormal(loc, scale_tril=scale.diag_embed())
    expected = kl_divergence(Independent(Normal(loc, scale), 1), q)
    torch.testing.assert_close(kl_divergence(full, q), expected)


def test_there_is_none_where_a_feature_has_none(p):
    with pytest.raises(NotImplementedError):
        kl_divergence(p, Independent(StudentT(3.0, torch.zeros(D).double(), 1.0), 1))
