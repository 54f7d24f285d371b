import pytest
import torch
from pyro.distributions import Independent, Normal

from vje_pyro.distributions.moments import moments
from vje_pyro.guides import AffineCouplingFlow

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


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="at least 2 and positive num_flows"):
        AffineCouplingFlow(D, num_flows=0)
