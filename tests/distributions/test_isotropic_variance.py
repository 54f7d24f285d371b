"""To be put beside the other tests of the isotropic laws with the patch."""

import pytest
import torch
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, VonMisesFisher


@pytest.mark.parametrize("law", [PowerSpherical, VonMisesFisher])
@pytest.mark.parametrize(("dim", "kappa"), [(3, 0.1), (8, 1.0), (50, 30.0), (8, 1e6)])
def test_variance_is_that_of_draws(law, dim, kappa):
    torch.manual_seed(0)
    d = law(normalize(torch.randn(dim).double(), dim=-1), concentration=kappa)
    torch.testing.assert_close(d.variance, d.sample((200_000,)).var(0), rtol=0.03, atol=0)
    total = d.variance.sum() + d.mean.square().sum()  # of a unit vector
    torch.testing.assert_close(total, torch.ones_like(total))
