"""The guides' densities, divergences and soft bounds (knobs: tests/models/test_knobs.py)."""

import pytest
import torch
from pyro.distributions import Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence

from vje_pyro.distributions.moments import moments
from vje_pyro.guides import AffineCouplingFlow, DiagonalNormal, LowRankNormal

D = 5


def flow(trained=True):
    torch.manual_seed(0)
    guide = AffineCouplingFlow(D, num_flows=3, flow_features=8, hidden_features=8).double().eval()
    if trained:
        for parameter in guide.couplings.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return guide


def test_a_fresh_flow_is_its_gaussian():
    posterior, scale = flow(trained=False).infer(torch.randn(4, D).double())
    # Three reversals are one.
    gaussian = Independent(Normal(posterior.base_dist.mean.flip(-1), scale.flip(-1)), 1)
    z = torch.randn(4, D).double()
    torch.testing.assert_close(posterior.log_prob(z), gaussian.log_prob(z))


def test_the_density_is_that_of_the_change_of_variables():
    """Log-det of the Jacobian of the whole map, by automatic differentiation."""
    posterior, _ = flow().infer(torch.randn(1, D).double())
    x = torch.randn(D).double()

    def forward(x):
        for transform in posterior.transforms:
            x = transform(x)
        return x

    jacobian = torch.autograd.functional.jacobian(forward, x)
    expected = posterior.base_dist.log_prob(x) - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(posterior.log_prob(forward(x).detach()), expected)


def test_a_draws_density_is_the_same_from_the_cache_and_from_the_inverse():
    posterior, _ = flow().infer(torch.randn(4, D).double())
    z = posterior.rsample((3,))
    cached = posterior.log_prob(z)
    torch.testing.assert_close(posterior.log_prob(z.detach().clone()), cached)
    assert cached.shape == (3, 4)


def test_every_feature_is_transformed():
    posterior, _ = flow().infer(torch.zeros(1, D).double())
    x = torch.zeros(1, D).double()
    y = x
    for transform in posterior.transforms:
        y = transform(y)
    assert (y.flip(-1) - x).abs().min() > 1e-4


def test_moments_come_from_draws_and_leave_the_global_seed_alone():
    posterior, _ = flow().infer(torch.randn(2, D).double())
    state = torch.get_rng_state()
    loc, scale = moments(posterior, num_samples=4000)
    assert torch.equal(torch.get_rng_state(), state)
    draws = posterior.sample((4000,))
    error = scale / 4000**0.5
    assert ((loc - draws.mean(0)).abs() < 6 * error).all()
    assert ((scale / draws.std(0)).log().abs() < 0.15).all()


@pytest.mark.parametrize("shared", [True, False])
def test_a_fresh_posterior_is_near_the_priors_scale(shared):
    torch.manual_seed(0)
    q = (
        DiagonalNormal(8, hidden_features=16, shared_scale=shared)
        .infer(torch.randn(5, 8))
        .posterior
    )
    assert (q.batch_shape, q.event_shape) == ((5,), (8,))
    assert 0.3 < q.stddev.mean() < 3


def test_bounds_are_soft_and_the_hits_are_counted():
    guide = DiagonalNormal(8, num_layers=0, min_scale=0.1, max_scale=2.0)
    guide.network[-1].weight.data.zero_()
    raw = torch.tensor([-1e3, -100.0, 1e3, 100.0, 0.0, -0.5, 0.2, -1.0])
    guide.network[-1].bias.data[8:] = raw
    scale = guide.infer(torch.zeros(1, 8)).scale
    assert ((scale >= 0.1 - 1e-6) & (scale <= 2.0 + 1e-6)).all()
    assert guide.bound_fraction(scale).item() == pytest.approx(4 / 8)
    guide.network[-1].bias.data.fill_(3.0)
    guide.infer(torch.zeros(1, 8)).scale.sum().backward()
    assert (guide.network[-1].bias.grad[8:] > 0).all()


def test_the_kl_of_low_rank_to_a_diagonal_gaussian_is_that_of_full_matrices():
    torch.manual_seed(0)
    guide = LowRankNormal(8, rank=2, hidden_features=16).double()
    p, scale = guide.infer(torch.randn(5, 8).double())
    q = Independent(Normal(torch.randn(8).double(), torch.rand(8).double() + 0.5), 1)
    full = MultivariateNormal(q.mean, q.stddev.square().diag())
    by_matrices = kl_divergence(MultivariateNormal(p.loc, p.covariance_matrix), full)
    torch.testing.assert_close(kl_divergence(p, q), by_matrices)
    torch.testing.assert_close(scale.square(), p.covariance_matrix.diagonal(dim1=-2, dim2=-1))


@pytest.mark.parametrize(
    ("guide", "arguments", "message"),
    [
        (DiagonalNormal, {"min_scale": 0.0}, "0 < min_scale < max_scale, got 0.0"),
        (DiagonalNormal, {"min_scale": 2.0, "max_scale": 1.0}, "got 2.0 and 1.0"),
        (DiagonalNormal, {"hidden_features": 0}, "hidden_features must be positive"),
        (DiagonalNormal, {"num_layers": -1}, "num_layers not negative"),
        (LowRankNormal, {"rank": 0}, "rank must be at least 1, got 0"),
        (AffineCouplingFlow, {"num_flows": 0}, "at least 2 and positive num_flows"),
    ],
)
def test_bad_arguments_are_named(guide, arguments, message):
    with pytest.raises(ValueError, match=message):
        guide(4, **arguments)
