import torch
from pyro.distributions import Independent, Normal

from vje_pyro.distributions.moments import moments


def test_closed_forms_are_used_where_they_are():
    d = Independent(Normal(torch.randn(3, 4), torch.rand(3, 4) + 0.1), 1)
    loc, scale = moments(d, num_samples=1)
    assert torch.equal(loc, d.mean)
    assert torch.equal(scale, d.stddev)
