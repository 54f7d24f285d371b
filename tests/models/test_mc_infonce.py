"""What MC-InfoNCE has beside the baselines: a posterior whose concentration says how sure it is."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from commandline import run_cli
from scipy.stats import spearmanr
from small import Encoder
from torch import nn
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, VonMisesFisher
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.models import MCInfoNCE, SimCLR

pytest.importorskip("lightly", reason="lightly is an extra")

P = 5


def make(**overrides):
    torch.manual_seed(0)
    return MCInfoNCE(**({"encoder": Encoder(), "hidden_dim": 16, "output_dim": P} | overrides))


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


def test_it_obeys_the_protocol_of_a_probabilistic_method(views):
    method = make()
    assert isinstance(method, ProbabilisticMethod)
    loss = method.loss(views)
    assert set(loss.monitors) == {"std", "concentration", "clamp_fraction"}
    kappa = method.posterior(views[0]).concentration
    assert 0.3 * P < loss.monitors["concentration"] < 3 * P
    assert kappa.shape == (8,)


@pytest.mark.parametrize("kappa", [0.3, 3.0, 30.0])
def test_the_gradient_is_that_of_finite_differences(kappa):
    """With fixed noise the loss is a smooth function of the natural parameters."""
    method = make(output_dim=3, law=InverseVonMisesFisher, num_particles=4)
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
    found, _ = make().compare(natural, natural)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_directions_that_know_nothing_give_the_chance_of_a_guess():
    torch.manual_seed(1)
    natural = 1e-6 * normalize(torch.randn(2, 6, P, dtype=torch.float64), dim=-1)
    found, _ = make(num_particles=4000).compare(natural, natural)
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
    method = make(encoder=Direction(), hidden_dim=32, output_dim=3, num_particles=8)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        method.loss(ambiguous_views(64)[0]).total.backward()
        optimizer.step()
    views, noise = ambiguous_views(500)
    uncertainty = method.eval().uncertainty(views[0]).detach()
    assert spearmanr(uncertainty, noise).statistic > 0.8


def test_the_likelihood_is_that_of_samples(views):
    method = make().eval()
    terms = method.log_likelihood(views[0], views[1])
    assert set(terms) == {"elbo", "direction", "kl"}
    posterior = method.posterior(views[0])
    assert (posterior.batch_shape, posterior.event_shape) == ((8,), (P,))
    z = posterior.sample((20_000,))
    direction = method.posterior(views[1]).loc
    log_p = VonMisesFisher(z, concentration=1 / 0.2, validate_args=False).log_prob(direction)
    torch.testing.assert_close(terms["direction"], log_p.mean(0), rtol=0, atol=0.1)
    kl = (posterior.log_prob(z) - method.prior().log_prob(z)).mean(0)
    torch.testing.assert_close(terms["kl"], kl, rtol=0, atol=0.05)
    torch.testing.assert_close(terms["elbo"], terms["direction"] - terms["kl"])
    torch.testing.assert_close(method.uncertainty(views[0]), -posterior.concentration.log())


def test_the_concentration_stays_within_its_bounds(views):
    method = make(max_ratio=10.0)
    with torch.no_grad():
        method.projector.concentration[-1].bias.fill_(100.0)
    assert method.loss(views).monitors["clamp_fraction"] == 1
    kappa = method.eval().posterior(views[0]).concentration
    torch.testing.assert_close(kappa, torch.full((8,), 10.0 * P))


def test_a_projection_of_length_zero_has_a_posterior():
    method = make()
    for parameter in method.projector.head.parameters():
        torch.nn.init.zeros_(parameter)
    posterior = method.posterior(torch.randn(2, 3, 4, 4))
    assert torch.isfinite(posterior.rsample()).all()


def test_a_law_without_gradients_is_refused():
    message = r"law must have samples with gradients \(rsample\); VonMisesFisher has none"
    for law in (VonMisesFisher, partial(VonMisesFisher, validate_args=False)):
        with pytest.raises(ValueError, match=message):
            make(law=law)
    assert make(law=partial(PowerSpherical, validate_args=False)).loss(torch.randn(2, 4, 3, 4, 4))


def test_nothing_is_moved_to_the_host_in_a_step(views, host_moves):
    method = make()
    law = partial(PowerSpherical, validate_args=False)
    method.law = law
    host_moves.clear()
    method.loss(views).total.backward()
    assert host_moves == []


def test_it_is_trained_evaluated_reported_and_loaded_by_name(tmp_path, digits, capsys):
    sizes = ("method.hidden_dim=16", "method.output_dim=8", "method.num_particles=2")
    run = digits.by_command("mc_infonce", tmp_path, *sizes)
    images = run.source.split("test").images[:5]
    assert run.posterior(images).event_shape == (8,)
    assert np.isfinite(run.log_likelihood(images)["elbo"].numpy()).all()
    assert run.method.uncertainty(run.normalize(images)).shape == (5,)
    capsys.readouterr()
    assert run_cli("diagnose", run.path) != 0
    assert "cannot be diagnosed" in capsys.readouterr().err
