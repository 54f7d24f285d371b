"""What MC-InfoNCE has beside the baselines: a posterior whose concentration says how sure it is."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from small import Encoder, P, make, random_views
from torch import nn
from torch.nn.functional import normalize

from vje_pyro.distributions import VonMisesFisher
from vje_pyro.models import SimCLR

pytest.importorskip("lightly", reason="lightly is an extra")

views = random_views()


class InverseVonMisesFisher:
    """The von Mises–Fisher law in three dimensions, by its inverse distribution function."""

    has_rsample = True

    def __init__(self, loc, concentration):
        self.loc = loc
        self.concentration = torch.as_tensor(concentration, dtype=loc.dtype)

    def rsample(self, shape):
        shape, generator = (*shape, *self.loc.shape), torch.Generator().manual_seed(4)
        u = torch.rand(shape[:-1], generator=generator, dtype=self.loc.dtype)
        noise = torch.randn(shape, generator=generator, dtype=self.loc.dtype)
        cosine = 1 + torch.log(u + (1 - u) * torch.exp(-2 * self.concentration))
        cosine = 1 + (cosine - 1) / self.concentration
        tangent = normalize(noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        return cosine[..., None] * self.loc + (1 - cosine.square()).sqrt()[..., None] * tangent


@pytest.mark.parametrize("kappa", [0.3, 3.0, 30.0])
def test_the_gradient_is_that_of_finite_differences(kappa):
    """With fixed noise the loss is a smooth function of the natural parameters."""
    method = make("MCInfoNCE", output_dim=3, law=InverseVonMisesFisher, num_particles=4)
    torch.manual_seed(1)
    outputs = kappa * normalize(torch.randn(2, 4, 3, dtype=torch.float64), dim=-1)
    loss = lambda natural: method.compare(natural, natural)[0]  # noqa: E731
    assert torch.autograd.gradcheck(loss, (outputs.requires_grad_(),))


def test_a_concentration_without_bound_gives_simclrs_loss():
    torch.manual_seed(1)
    locations = normalize(torch.randn(2, 6, P, dtype=torch.float64), dim=-1)
    simclr = SimCLR(Encoder(), hidden_dim=16, output_dim=P)
    expected, _ = simclr.compare(locations, locations)
    natural = 1e10 * locations
    found, _ = make("MCInfoNCE").compare(natural, natural)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_directions_that_know_nothing_give_the_chance_of_a_guess():
    torch.manual_seed(1)
    natural = 1e-6 * normalize(torch.randn(2, 6, P, dtype=torch.float64), dim=-1)
    found, _ = make("MCInfoNCE", num_particles=4000).compare(natural, natural)
    # The mean chance is 1/11 for every anchor, by symmetry; the loss is its log but for noise.
    assert found.item() == pytest.approx(math.log(11), abs=0.05)


class Direction(nn.Module):
    """Images whose first three pixels are a direction and the fourth how noisy it is."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * images.flatten(1)


def ambiguous_views(count):
    """Two noisy copies of each of ``count`` directions, each with a noise that can be seen."""
    noise = torch.rand(2, count, 1)
    clean = normalize(torch.randn(count, 3), dim=-1)
    copies = normalize(clean + noise * torch.randn(2, count, 3), dim=-1)
    return torch.cat([copies, 4 * noise - 2], dim=-1)[..., None, None], noise[0, :, 0]


def test_the_concentration_learns_which_images_are_ambiguous():
    method = make("MCInfoNCE", encoder=Direction(), hidden_dim=32, output_dim=3, num_particles=8)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        method.loss(ambiguous_views(64)[0]).total.backward()
        optimizer.step()
    views, noise = ambiguous_views(500)
    uncertainty = method.eval().uncertainty(views[0]).detach()
    assert spearmanr(uncertainty, noise).statistic > 0.8


def test_the_likelihood_is_that_of_samples():
    method = make("MCInfoNCE").eval()
    terms = method.log_likelihood(views[0], views[1])
    posterior = method.posterior(views[0])
    z = posterior.sample((20_000,))
    direction = method.posterior(views[1]).loc
    log_p = VonMisesFisher(z, concentration=1 / 0.2, validate_args=False).log_prob(direction)
    torch.testing.assert_close(terms["direction"], log_p.mean(0), rtol=0, atol=0.1)
    kl = (posterior.log_prob(z) - method.prior().log_prob(z)).mean(0)
    torch.testing.assert_close(terms["kl"], kl, rtol=0, atol=0.05)


def test_a_projection_of_length_zero_has_a_posterior():
    method = make("MCInfoNCE")
    for parameter in method.projector.head.parameters():
        torch.nn.init.zeros_(parameter)
    posterior = method.posterior(torch.randn(2, 3, 4, 4))
    assert torch.isfinite(posterior.rsample()).all()
