"""VJE under every objective, with global latents, and under Pyro's own inference."""

from functools import partial

import pyro
import pytest
import torch
from pyro.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from small import D, Encoder, gradients
from torch._subclasses import FakeTensorMode

from vje_pyro.distributions import PowerSpherical, ProjectedStudentT, RadialStudentT
from vje_pyro.encoders import Identity
from vje_pyro.errors import NonFiniteError
from vje_pyro.guides import ConjugateNormal, DiagonalNormal
from vje_pyro.inference import Conditional, Joint, Predictive, Subsets, SymmetricELBO
from vje_pyro.models import VJE, GlobalLatents

B = 8
LATENTS = {"direction_df": (1.0, 0.5), "direction_scale": (0.0, 0.5), "radius_scale": (0.0, 0.5)}


def make(seed=0, **overrides):
    torch.manual_seed(seed)
    arguments = {
        "encoder": Encoder(),
        "guide": partial(ConjugateNormal, hidden_features=16),
        "direction": partial(ProjectedStudentT, df=2.0),
        "radius": partial(RadialStudentT, scale=1.0, df=1.0),
    }
    return VJE(**(arguments | overrides))


@pytest.fixture(autouse=True)
def _fresh_store():
    pyro.clear_param_store()


@pytest.fixture
def views():
    return torch.randn(2, B, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("objective", [Conditional(), Joint(), Subsets(), Predictive()])
@pytest.mark.parametrize("num_views", [2, 3])
def test_every_objective_trains_with_any_number_of_views(objective, num_views):
    method = make(objective=objective, num_particles=4)
    loss = method.loss(torch.randn(num_views, B, 3, 4, 4))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(g.isfinite().all() for g in gradients(method).values())
    assert method.encoder.calls == num_views


def test_objectives_differ(views):
    totals = []
    for objective in (Conditional(), Joint(), Subsets(), Predictive()):
        method = make(objective=objective, num_particles=4)
        torch.manual_seed(1)
        totals.append(method.loss(views).total.item())
    assert len({round(total, 4) for total in totals}) == 4


def test_the_joint_bound_written_by_hand(views):
    method = make(objective=Joint(), radius=None)
    torch.manual_seed(2)
    elbo = method.loss(views).parts["elbo"]
    method = make(objective=Joint(), radius=None)
    s = torch.stack([method.encode(view) for view in views]).detach()
    posterior, scale = method.infer(s.flatten(0, 1))
    v = scale.square().view(2, B, D)
    precision = 1 + (1 / v).sum(0)
    loc = (posterior.mean.view(2, B, D) * (1 + v) / v).sum(0) / precision
    q = torch.distributions.Normal(loc, precision.rsqrt())
    torch.manual_seed(2)
    z = q.rsample()
    law = method.direction(loc=z / z.norm(dim=-1, keepdim=True), scale=v.flip(0).sqrt() / D**0.5)
    likelihood = law.log_prob(s / s.norm(dim=-1, keepdim=True)).sum(0)
    kl = 0.5 * (loc**2 + 1 / precision - 1 + precision.log()).sum(-1)
    torch.testing.assert_close(elbo, (likelihood - kl).mean())


@pytest.mark.parametrize(
    "loss",
    [
        SymmetricELBO(),
        Trace_ELBO(),
        TraceMeanField_ELBO(),
        TraceGraph_ELBO(),
        TraceEnum_ELBO(max_plate_nesting=2),
        RenyiELBO(alpha=0.5, num_particles=2),
        Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("objective", [Conditional(), Joint()], ids=["conditional", "joint"])
@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites configured")
def test_svi_with_any_objective_trains_the_encoder(loss, objective, views):
    method = make(objective=objective)
    before = {n: p.detach().clone() for n, p in method.named_parameters()}
    svi = SVI(method.model, method.guide, pyro.optim.Adam({"lr": 0.01}), loss=loss)
    for _ in range(2):
        assert torch.isfinite(torch.tensor(svi.step(views)))
    still = [n for n, p in method.named_parameters() if torch.equal(p, before[n])]
    assert not still


@pytest.mark.parametrize("loss", [SymmetricELBO(), Trace_ELBO()])
def test_svi_trains_through_lambdas_and_poutines(loss, views):
    method = make()
    before = method.encoder.linear.weight.detach().clone()
    svi = SVI(
        lambda x: pyro.poutine.scale(method.model, scale=0.5)(x),
        pyro.poutine.scale(method.guide, scale=0.5),
        pyro.optim.Adam({"lr": 0.01}),
        loss=loss,
    )
    svi.step(views)
    assert not torch.equal(method.encoder.linear.weight, before)


def test_the_encoder_runs_once_a_view_in_svi(views):
    method = make()
    svi = SVI(method.model, method.guide, pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
    svi.step(views)
    assert method.encoder.calls == 2
    svi.step(views)  # the same tensor again is read again: the weights have moved
    assert method.encoder.calls == 4


def test_training_that_trains_nothing_is_an_error():
    def model():
        with pyro.plate("data", 2):
            pyro.sample("z", pyro.distributions.Normal(0.0, 1.0))

    svi = SVI(model, model, pyro.optim.Adam({"lr": 0.01}), loss=SymmetricELBO())
    with pytest.raises(ValueError, match="nothing would be trained"):
        svi.step()


@pytest.mark.parametrize("num_data", [None, 100])
@pytest.mark.parametrize("objective", [Conditional(), Joint()], ids=["conditional", "joint"])
def test_a_global_latent_counts_once(num_data, objective, views):
    method = make(objective=objective, latents=GlobalLatents(**LATENTS), num_data=num_data)
    with torch.no_grad():
        method.latents.loc += 1.0
    data = method.pairs(views)
    data = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in data)
    torch.manual_seed(3)
    ours = SymmetricELBO().differentiable_loss(method.model, method.guide, *data)
    torch.manual_seed(3)
    whole = num_data or len(data[0].mean)
    theirs = TraceMeanField_ELBO().differentiable_loss(method.model, method.guide, *data) / whole
    torch.testing.assert_close(ours, theirs)


def test_global_latents_are_trained_and_change_the_loss(views):
    method = make(latents=GlobalLatents(**LATENTS), num_data=B)
    loss = method.loss(views)
    loss.total.backward()
    assert (method.latents.loc.grad != 0).all()
    assert (method.latents.log_scale.grad != 0).all()
    torch.manual_seed(0)
    plain = make().loss(views).total
    torch.manual_seed(0)
    assert make(latents=GlobalLatents(**LATENTS), num_data=B).loss(views).total != plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "all global latents are None"),
        ({"radius_df": (0.0, 0.0)}, "log radius_df must be a finite mean"),
        ({"radius_df": (0.0,)}, r"got \(0.0,\)"),
    ],
)
def test_bad_priors_of_global_latents_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GlobalLatents(**arguments)


def test_alignment_alone_trains_the_encoder(views):
    def aligned(**overrides):
        other = make(
            1,
            encoder=Identity(D),
            guide=partial(DiagonalNormal, hidden_features=16),
            direction=PowerSpherical,
        )
        return make(objective=Joint(), alignment=other, **overrides)

    method = aligned()
    loss = method.loss(views)
    loss.total.backward()
    assert {"alignment", "elbo"} <= set(loss.parts)
    trained = gradients(method)["encoder.linear.weight"]
    # The joint model's own scale does not reach the encoder.
    other = aligned(beta=0.1)
    other.loss(views).total.backward()
    torch.testing.assert_close(gradients(other)["encoder.linear.weight"], trained)
    assert method.encoder.calls == 2


def test_the_posterior_narrows_with_more_views():
    method = make(objective=Joint()).eval()
    views = torch.randn(8, B, 3, 4, 4)
    widths = [method.posterior_of_views(views[:k]).stddev.mean().item() for k in (1, 2, 4, 8)]
    assert widths == sorted(widths, reverse=True)
    one = method.posterior_of_views(views[:1])
    torch.testing.assert_close(one.mean, method.posterior(views[0]).mean)
    torch.testing.assert_close(one.stddev, method.posterior(views[0]).stddev)


def test_a_further_view_is_predicted_as_the_predictive_objective_predicts_it():
    method = make(objective=Predictive()).eval()
    embeddings = torch.randn(4, B, D)
    posterior, scale = method.infer_views(embeddings[1:])
    expected = method.evidence(embeddings, embeddings)
    torch.testing.assert_close(posterior.mean, expected.posterior.mean[:B])
    torch.testing.assert_close(posterior.stddev, expected.posterior.stddev[:B])
    torch.testing.assert_close(scale, expected.scale[:B])


def test_views_of_which_some_are_missing_are_refused():
    method = make().eval()
    views = torch.randn(3, B, 3, 4, 4)
    with pytest.raises(ValueError, match="leave out images that lack a view"):
        method.posterior_of_views([views[0], views[1, :-1], views[2]])
    views[1, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="view 1 of image 0"):
        method.posterior_of_views(views)


def test_the_model_is_defined_at_zero(views):
    method = make().eval()
    _, scale, target = method.pairs(views)
    model = pyro.poutine.condition(
        method.model, data={"z": torch.zeros(2 * B, D, requires_grad=True)}
    )
    trace = pyro.poutine.trace(model).get_trace(None, scale.detach(), target)
    log_joint = trace.log_prob_sum()
    (gradient,) = torch.autograd.grad(log_joint, trace.nodes["z"]["value"])
    assert torch.isfinite(log_joint)
    assert torch.isfinite(gradient).all()


def test_an_automatic_guide_fits_the_model(views):
    method = make()
    _, scale, target = (
        x.detach() if isinstance(x, torch.Tensor) else x for x in method.pairs(views)
    )
    guide = pyro.infer.autoguide.AutoNormal(method.model, init_scale=0.1)
    svi = SVI(method.model, guide, pyro.optim.Adam({"lr": 0.02}), loss=Trace_ELBO())
    losses = [svi.step(None, scale, target) for _ in range(100)]
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize("objective", [Conditional(), Joint(), Subsets(), Predictive()])
def test_a_loss_stays_on_the_gpu_and_reads_no_value_back(objective, monkeypatch):
    """On fake tensors of a GPU, one of the CPU among them or a value that is read is an error.

    The backward pass needs a driver and is not tried.
    """
    monkeypatch.setattr("vje_pyro.models.vje._check_likelihoods", lambda *_: None)  # reads values
    with FakeTensorMode(), pyro.validation_enabled(False):
        with torch.device("cuda"):
            method = make(
                objective=objective,
                latents=GlobalLatents(**LATENTS),
                num_data=100,
                num_particles=2,
                alignment=make(1, encoder=Identity(D), direction=PowerSpherical),
            )
            views = torch.empty(2, B, 3, 4, 4)
        loss = method.loss(views)
    everything = [loss.total, *loss.parts.values(), *loss.monitors.values()]
    assert {x.device.type for x in everything} == {"cuda"}


@pytest.mark.parametrize("objective", [Conditional(), Joint()], ids=["conditional", "joint"])
def test_more_data_than_the_data_set_has_are_all_of_it(objective, views):
    few, plain = (
        make(objective=objective, latents=GlobalLatents(**LATENTS), num_data=number)
        for number in (2, None)
    )
    totals = []
    for method in (few, plain):
        torch.manual_seed(4)
        totals.append(method.loss(views).total)
    torch.testing.assert_close(*totals)
