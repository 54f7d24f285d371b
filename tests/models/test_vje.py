import math
from functools import partial

import pyro
import pytest
import torch
from small import D, Encoder, gradients
from torch.nn.functional import normalize

from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.guides import DiagonalNormal
from vje_pyro.inference import SlicedEppsPulley, SymmetricELBO
from vje_pyro.method import Loss, Method, ProbabilisticMethod
from vje_pyro.models import VJE


def make(seed=0, **overrides):
    torch.manual_seed(seed)
    arguments = {
        "encoder": Encoder(),
        "guide": partial(DiagonalNormal, hidden_features=16),
        "direction": partial(SphericalStudentT, df=1.0),
        "radius": partial(RadialStudentT, scale=1.0, df=1.0),
    }
    return VJE(**(arguments | overrides))


def test_it_obeys_the_protocols(views):
    method = make()
    assert isinstance(method, Method)
    assert isinstance(method, ProbabilisticMethod)
    loss = method.loss(views)
    assert isinstance(loss, Loss)
    assert set(loss.parts) == {"elbo", "direction", "radius", "kl"}
    assert set(loss.monitors) == {"angle", "scale_mean", "scale_std", "clamp_fraction"}
    assert not any(v.requires_grad for v in [*loss.parts.values(), *loss.monitors.values()])


@pytest.mark.parametrize("num_views", [2, 3])
def test_the_encoder_runs_once_per_view(num_views):
    method = make()
    method.loss(torch.randn(num_views, 8, 3, 4, 4)).total.backward()
    assert method.encoder.calls == num_views


def test_loss_is_the_formula_written_by_hand(views):
    method = make(beta=0.7)
    torch.manual_seed(2)
    loss = method.loss(views)

    method = make(beta=0.7)  # batch norm statistics as before
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
    torch.testing.assert_close(loss.total, -elbo / D)
    torch.testing.assert_close(loss.parts["direction"], direction.mean())
    torch.testing.assert_close(loss.parts["radius"], radius.mean())
    torch.testing.assert_close(loss.parts["kl"], kl.mean())
    torch.testing.assert_close(loss.parts["elbo"], elbo)


def test_elbo_module_and_classic_svi_give_the_trainers_gradients(views):
    trained = make()
    torch.manual_seed(3)
    trained.loss(views).total.backward()
    expected = {name: g * D for name, g in gradients(trained).items()}  # total is per dimension

    by_module = make()
    elbo = SymmetricELBO()(by_module.model, by_module.guide)
    torch.manual_seed(3)
    elbo(*by_module.pairs(views)).backward()

    by_svi = make()
    captured = {}

    def capture(parameters):
        captured.update(gradients(by_svi))
        assert {id(p) for p in parameters} == {id(p) for p in by_svi.parameters()}

    svi = pyro.infer.SVI(
        by_svi.model, by_svi.guide, pyro.optim.SGD({"lr": 0.1}), loss=SymmetricELBO()
    )
    svi.optim = capture
    torch.manual_seed(3)
    svi.step(*by_svi.pairs(views))

    for name, gradient in expected.items():
        torch.testing.assert_close(gradients(by_module)[name], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(captured[name], gradient, rtol=1e-4, atol=1e-6)


def test_classic_svi_moves_the_encoders_weights(views):
    method = make()
    before = method.encoder.linear.weight.detach().clone()
    svi = pyro.infer.SVI(
        method.model, method.guide, pyro.optim.Adam({"lr": 0.01}), loss=SymmetricELBO()
    )
    losses = [svi.step(*method.pairs(views)) for _ in range(30)]
    assert (method.encoder.linear.weight - before).abs().max() > 0.01
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "knob",
    [
        {"beta": 0.5},
        {"num_particles": 2},
        {"embedding_norm": False},
        {"radius": None},
        {"aggregate": SlicedEppsPulley(weight=1e-3)},
        {"aggregate": SlicedEppsPulley(weight=1e-2)},
        {"radius": partial(RadialStudentT, scale=2.0, df=1.0)},
        {"radius": partial(RadialStudentT, scale=1.0, df=3.0)},
        {"radius": partial(RadialStudentT, scale=1.0, df=1.0, normalized=True)},
        {"direction": partial(SphericalStudentT, df=3.0)},
        {"direction": partial(SphericalStudentT, df=1.0, normalized=True)},
        {"guide": partial(DiagonalNormal, hidden_features=8)},
        {"guide": partial(DiagonalNormal, hidden_features=16, num_layers=2)},
        {"guide": partial(DiagonalNormal, hidden_features=16, max_scale=2.0)},
        {"guide": partial(DiagonalNormal, hidden_features=16, min_scale=0.5)},
    ],
    ids=str,
)
def test_every_knob_changes_the_loss(knob, views):
    totals = []
    for overrides in ({}, knob):
        method = make(**overrides)
        torch.manual_seed(4)
        totals.append(method.loss(views).total.item())
    assert totals[0] != totals[1]


def test_the_aggregate_term_is_added_and_pulls_the_embeddings(views):
    plain, regularised = make(), make(aggregate=SlicedEppsPulley(weight=0.1))
    losses = []
    for method in (plain, regularised):
        torch.manual_seed(4)
        losses.append(method.loss(views))
    torch.testing.assert_close(
        losses[1].total - losses[0].total, losses[1].parts["aggregate"], rtol=1e-3, atol=1e-5
    )
    for method, loss in zip((plain, regularised), losses, strict=True):
        loss.total.backward()
        assert "aggregate" in loss.parts or method is plain
    key = "encoder.linear.weight"
    assert not torch.allclose(gradients(plain)[key], gradients(regularised)[key])


def test_the_target_is_observed_unless_gradient_may_flow(views):
    losses, grads = [], []
    for target_grad in ("stop", "flow"):
        method = make(target_grad=target_grad)
        torch.manual_seed(5)
        loss = method.loss(views).total
        loss.backward()
        losses.append(loss.item())
        grads.append(gradients(method)["encoder.linear.weight"])
    assert losses[0] == losses[1]  # the same value …
    assert not torch.allclose(grads[0], grads[1])  # … with another gradient


def test_a_teacher_gives_the_targets(views):
    plain, taught = make(), make(target_momentum=0.5)
    seen = []
    for method in (plain, taught):
        torch.manual_seed(5)
        seen.append(method.loss(views))
    torch.testing.assert_close(seen[1].total, seen[0].total)  # it starts as a copy
    with torch.no_grad():
        taught.encoder.linear.weight.add_(torch.randn_like(taught.encoder.linear.weight))
    before = taught.teacher.module.linear.weight.clone()
    source, target = taught.sources_and_targets(views)
    expected = torch.stack([view.flatten(1) @ before.T for view in views])
    expected = expected + taught.teacher.module.linear.bias
    expected = (expected - expected.mean(1, keepdim=True)) / (
        expected.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(target, expected)
    assert source.requires_grad
    assert not target.requires_grad
    taught.after_step(0.0)
    moved = (before + taught.encoder.linear.weight) / 2
    torch.testing.assert_close(taught.teacher.module.linear.weight, moved)
    plain.after_step(0.0)  # nothing to move


def test_nothing_is_moved_to_the_host_in_a_step(views, host_moves):
    method = make()
    host_moves.clear()
    with pyro.validation_enabled(False):
        method.loss(views).total.backward()
        assert host_moves == []
        float(torch.ones(()))  # the spies do see
    assert host_moves


def test_scores_are_float32_under_autocast(views):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(views)
        assert method.embed(views[0]).dtype == torch.float32
        assert method.encode(views[0]).dtype == torch.float32
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.total)


def test_posterior_and_log_likelihood_of_images(views):
    method = make().eval()
    torch.manual_seed(6)
    terms = method.log_likelihood(views[0], views[1], num_samples=4)
    assert set(terms) == {"elbo", "direction", "radius", "kl"}
    assert all(v.shape == (8,) for v in terms.values())
    torch.testing.assert_close(terms["elbo"], terms["direction"] + terms["radius"] - terms["kl"])
    q = method.posterior(views[0])
    assert (q.batch_shape, q.event_shape) == ((8,), (D,))
    prior = pyro.distributions.Normal(torch.zeros(D), 1.0).to_event(1)
    torch.testing.assert_close(terms["kl"], torch.distributions.kl_divergence(q, prior))


def test_the_generative_model_runs_forward():
    method = make().eval()
    posterior = method.posterior(torch.randn(5, 3, 4, 4))
    trace = pyro.poutine.trace(pyro.poutine.uncondition(method.model)).get_trace(
        posterior, torch.ones(5, D)
    )
    direction, radius = (trace.nodes[name]["value"] for name in ("direction", "radius"))
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(5))
    assert (radius > 0).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"encoder": Encoder(2)}, "at least 3, got 2"),
        ({"beta": -1.0}, "beta must be finite and not negative, got -1.0"),
        ({"target_grad": "ema"}, "target_grad must be 'stop' or 'flow', got 'ema'"),
        ({"target_momentum": 1.5}, r"target_momentum must be in \[0, 1\]"),
        ({"target_momentum": 0.9, "target_grad": "flow"}, "got 0.9 with target_grad='flow'"),
        ({"direction": partial(SphericalStudentT, df=-1.0)}, "direction.*parameter df"),
        ({"radius": partial(RadialStudentT, scale=0.0, df=1.0)}, "radius.*parameter scale"),
    ],
)
def test_bad_arguments_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        make(**overrides)
