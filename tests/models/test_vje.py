"""VJE's own: its formula, its targets, its scale."""

import math

import pytest
import torch
from small import D, gradients, make, random_views, seeded
from torch.nn.functional import normalize

from vje_pyro.inference import SlicedEppsPulley

views = random_views()


def test_loss_is_the_formula_written_by_hand():
    loss = seeded(make("VJE", beta=0.7).loss, views)

    method = make("VJE", beta=0.7)  # batch norm statistics as before
    s = [method.norm(method.encoder(v)) for v in views]
    source, target = torch.cat(s), torch.cat(s[::-1]).detach()
    q = method.infer(source).posterior
    torch.manual_seed(2)
    z = q.rsample()
    m, tau = normalize(z, dim=-1), q.stddev / math.sqrt(D)
    u, r = normalize(target, dim=-1), target.norm(dim=-1)
    c, d, nu = (u * m).sum(-1), D - 1, 1.0
    quadratic = 2 / (1 + c) * (((u - c[:, None] * m) / tau) ** 2).sum(-1)
    direction = (
        math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
        - tau.log().sum(-1) + 0.5 * (m * tau).square().sum(-1).log()
        - (nu + d) / 2 * torch.log1p(quadratic / nu)
    )  # fmt: skip
    radius = -math.log(math.pi) - torch.log1p((r - z.norm(dim=-1)).square())
    kl = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(-1)
    elbo = (direction + radius - 0.7 * kl).mean()
    expected = {
        "elbo": elbo,
        "direction": direction.mean(),
        "radius": radius.mean(),
        "kl": kl.mean(),
    }
    torch.testing.assert_close(loss.parts, expected)
    torch.testing.assert_close(loss.total, -elbo / D)


def test_the_aggregate_term_pulls_the_embeddings():
    grads = []
    for aggregate in (None, SlicedEppsPulley(weight=0.1)):
        method = make("VJE", aggregate=aggregate)
        seeded(method.loss, views).total.backward()
        grads.append(gradients(method)["encoder.linear.weight"])
    assert not torch.allclose(*grads)


def test_a_teacher_gives_the_targets():
    plain, taught = make("VJE"), make("VJE-teacher")
    torch.testing.assert_close(*(seeded(m.loss, views).total for m in (plain, taught)))  # a copy
    with torch.no_grad():
        taught.encoder.linear.weight.add_(torch.randn_like(taught.encoder.linear.weight))
    teacher = taught.teacher.module.linear
    source, target = taught.sources_and_targets(views)
    expected = torch.stack([view.flatten(1) @ teacher.weight.T for view in views]) + teacher.bias
    deviation = (expected.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(target, (expected - expected.mean(1, keepdim=True)) / deviation)
    assert source.requires_grad
    assert not target.requires_grad
    state = {k: v.clone() for k, v in plain.state_dict().items()}
    plain.after_step(0.0)  # nothing to move
    assert all(torch.equal(v, state[k]) for k, v in plain.state_dict().items())


def test_wider_posteriors_are_more_uncertain(monkeypatch):
    method = make("VJE").eval()
    before = method.uncertainty(views[0])
    original = method.inference.bounded_scale
    monkeypatch.setattr(method.inference, "bounded_scale", lambda raw: 2 * original(raw))
    difference = (method.uncertainty(views[0]) - before).detach()
    assert difference.numpy() == pytest.approx(math.log(2), rel=1e-4)


def test_a_projection_is_modelled_and_the_features_are_before_it():
    method = make("VJE", projector_dim=5).eval()
    features = method.encoder(views[0])
    assert torch.equal(method.embed(views[0]), features)
    assert torch.equal(method.encode(views[0]), method.norm(method.projector(features)))
