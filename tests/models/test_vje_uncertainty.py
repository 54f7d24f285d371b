from functools import partial

import torch
from torch import nn

from vje_pyro.distributions import SphericalStudentT
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import VJE


class Encoder(nn.Module):
    num_features = 6

    def forward(self, images):
        return images.flatten(1)[:, :6]


def make(guide):
    torch.manual_seed(0)
    method = VJE(Encoder(), guide, partial(SphericalStudentT, df=1.0), None)
    return method.eval()


def test_it_is_the_entropy_per_dimension():
    method, images = make(partial(DiagonalNormal, hidden_features=8)), torch.randn(5, 1, 4, 4)
    posterior = method.posterior(images)
    constant = 0.5 * (1 + torch.log(torch.tensor(2 * torch.pi)))
    value = method.uncertainty(images)
    assert value.shape == (5,)
    assert torch.allclose(value, posterior.entropy() / 6 - constant, atol=1e-5)
    assert torch.equal(value, posterior.stddev.log().mean(-1))


def test_wider_posteriors_are_more_uncertain(monkeypatch):
    method, images = make(partial(DiagonalNormal, hidden_features=8)), torch.randn(5, 1, 4, 4)
    before = method.uncertainty(images)
    original = method.inference.bounded_scale
    monkeypatch.setattr(method.inference, "bounded_scale", lambda raw: 2 * original(raw))
    assert torch.allclose(method.uncertainty(images) - before, torch.tensor(2.0).log())
