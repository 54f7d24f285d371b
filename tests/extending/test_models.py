"""Models of one's own: bounds against the same bounds written out, and what they train."""

from math import exp, log, pi

import pyro
import pytest
import torch
from pyro.distributions import (
    Categorical,
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from torch.distributions import kl_divergence

from vje_pyro.diagnostics._programs import draw_latents, hold_globals, site_log_probs
from vje_pyro.inference import SymmetricELBO

V, N, D = 2, 8, 3


def read(method, *labels, views):
    """What the programs are given, without gradient."""
    with torch.no_grad():
        data = method.pairs(views, *labels)
    return [x.detach() if isinstance(x, torch.Tensor) else x for x in data]


def bound(method, data, num_particles=8_000):
    """Mean ELBO per datum, and its standard error over eight repetitions."""
    elbo = SymmetricELBO(num_particles=num_particles // 8)
    torch.manual_seed(1)
    draws = torch.tensor([-elbo.loss(method.model, method.guide, *data) for _ in range(8)])
    return draws.mean().item(), draws.std().item() / 8**0.5


def expected_log_normal(target, posterior, variance):
    """Sum over views and features of E_q log Normal(target; z, variance), ``(N,)``."""
    square = (target - posterior.mean).square() + posterior.variance
    return -0.5 * (log(2 * pi * variance) + square / variance).sum((0, -1))


def set_params(method, **values):
    """Give unconstrained parameters of the programs other values."""
    with torch.no_grad():
        for name, value in values.items():
            dict(method.params.named_parameters())[name].copy_(torch.as_tensor(value))


def encoder_gradient(method, *data):
    method.zero_grad()
    method.loss(*data).total.backward()
    return method.encoder[1].weight.grad


def test_the_exact_posterior_makes_the_bound_the_evidence(example):
    page = example("The model to extend")
    posterior, scale, target = read(page.method, views=page.views)
    covariance = torch.eye(V) * page.VARIANCE + 1
    evidence = MultivariateNormal(torch.zeros(V), covariance).log_prob(target.permute(1, 2, 0))
    found, error = bound(page.method, (posterior, scale, target))
    assert error < 0.05
    assert found == pytest.approx(evidence.sum(-1).mean().item(), abs=5 * error)
    assert encoder_gradient(page.method, page.views).abs().max() > 0


def test_a_hierarchical_prior(example):
    page = example("A hierarchical prior")
    method, means = page.grouped, torch.randn(3, D)
    set_params(method, mean_loc=means, mean_scale=log(0.4), spread_loc=0.2, spread_scale=log(0.1))
    posterior, scale, target, labels = read(method, page.groups, views=page.views)
    q, deviation = posterior, 0.4
    # Given the means, and with E spread^-2 of a log-normal spread.
    inverse = exp(-2 * 0.2 + 2 * 0.1**2)
    of_z = 0.5 * (
        q.variance + (q.mean - means[labels]).square() + deviation**2 - 1 - q.variance.log()
    ).sum(-1)
    of_means = (0.2 - log(deviation) - 0.5 + 0.5 * inverse * (deviation**2 + means.square())).sum()
    of_spread = kl_divergence(Normal(0.2, torch.tensor(0.1)), Normal(0.0, 0.5))
    likelihood = expected_log_normal(target, q, page.VARIANCE)
    # A mini-batch of 8 of 800 images: what belongs to all counts once in 800.
    expected = (likelihood - of_z).mean() - (of_means + of_spread) / 800
    found, error = bound(method, (posterior, scale, target, labels))
    assert error < 0.05
    assert found == pytest.approx(expected.item(), abs=5 * error)
    assert encoder_gradient(method, page.views, page.groups).abs().max() > 0
    assert all((p.grad != 0).any() for p in method.params.parameters())


def test_diagnostics_hold_the_hierarchy_at_its_means(example):
    page = example("A hierarchical prior")
    data = tuple(read(page.grouped, page.groups, views=page.views))
    held = hold_globals(page.grouped, data)
    assert set(draw_latents(held.guide, data, 5)) == {"z"}
    at_zero = site_log_probs(held.model, data, {"z": torch.zeros(N, D)})
    (means,) = [p for n, p in page.grouped.params.named_parameters() if n == "mean_loc"]
    expected = Normal(means[page.groups], 1.0).log_prob(torch.zeros(N, D)).sum(-1)
    torch.testing.assert_close(at_zero["z"].squeeze(0), expected)


def test_labels_of_some_images(example):
    page = example("Labels of some images")
    method, labels = page.semi, page.some
    data = read(method, labels, views=page.views)
    torch.testing.assert_close(data[3], labels.repeat(2))  # of both orders of the views
    torch.manual_seed(2)
    part = method.loss(page.views, labels).parts["label"]
    torch.manual_seed(2)
    trace = pyro.poutine.trace(method.guide).get_trace(page.views)
    logits = method.classify(trace.nodes["z"]["value"])
    known = data[3] >= 0
    nats = torch.nn.functional.cross_entropy(logits[known], data[3][known], reduction="sum")
    torch.testing.assert_close(part, -nats / len(logits))
    method.zero_grad()
    method.loss(page.views, torch.full_like(labels, -1)).total.backward()
    assert (method.classify.weight.grad == 0).all()
    method.loss(page.views, labels).total.backward()
    assert (method.classify.weight.grad != 0).all()
    assert "label" not in method.loss(page.views).parts


def test_svi_on_views_and_labels(example):
    page = example("Labels of some images")
    pyro.clear_param_store()
    before = {n: p.detach().clone() for n, p in page.semi.named_parameters()}
    adam = pyro.optim.Adam({"lr": 0.01})
    SVI(page.semi.model, page.semi.guide, adam, Trace_ELBO()).step(page.views, page.some)
    assert [n for n, p in page.semi.named_parameters() if torch.equal(p, before[n])] == []


def test_labels_are_only_for_models_that_read_them(example):
    page = example("Labels of some images")
    with pytest.raises(TypeError, match="generate"):
        page.VJE(page.Encoder(), page.Exact, page.PowerSpherical, None).loss(page.views, page.some)


def test_a_global_latent(example):
    page = example("A global latent")
    method = page.noisy
    set_params(method, noise_loc=0.1, noise_scale=log(0.2))
    posterior, scale, target = read(method, views=page.views)
    # log Normal(x; z, noise √VARIANCE), with E noise^-2 of a log-normal noise.
    likelihood = expected_log_normal(target, posterior, page.VARIANCE)
    square = likelihood + 0.5 * V * D * log(2 * pi * page.VARIANCE)
    likelihood += (exp(-2 * 0.1 + 2 * 0.2**2) - 1) * square - V * D * 0.1
    of_z = kl_divergence(posterior, method.prior_distribution())
    of_noise = kl_divergence(LogNormal(0.1, torch.tensor(0.2)), LogNormal(0.0, 0.3))
    expected = (likelihood - of_z).mean() - of_noise / 800
    found, error = bound(method, (posterior, scale, target))
    assert error < 0.05
    assert found == pytest.approx(expected.item(), abs=5 * error)
    assert encoder_gradient(method, page.views).abs().max() > 0
    assert all((p.grad != 0).any() for p in method.params.parameters())


def test_a_global_latent_without_a_site_in_the_guide_is_an_error(example):
    page = example("A global latent")

    class Forgetful(page.UnknownNoise):
        def approximate(self, *data):
            return page.LinearGaussian.approximate(self, *data)

    with pytest.raises(ValueError, match=r"latent site 'noise' is not in the guide.*\['z'\]"):
        Forgetful().loss(page.views)


def test_a_mixture_by_enumeration(example):
    page = example("A mixture, by enumeration")
    method = page.clustered
    data = read(method, views=page.views)

    class Summed(page.LinearGaussian):
        def generate(self, posterior, scale, target=None):
            with self.plate(scale):
                components = Independent(Normal(method.centres, 0.5), 1)
                law = MixtureSameFamily(Categorical(logits=method.weights), components)
                self.observe(pyro.sample("z", law), scale, target)

    losses = []
    for model, elbo in (
        (method.model, TraceEnum_ELBO(max_plate_nesting=2)),
        (Summed().model, Trace_ELBO()),
    ):
        torch.manual_seed(3)
        losses.append(elbo.differentiable_loss(model, method.guide, *data))
    torch.testing.assert_close(*losses)
    losses[0].backward()
    assert (method.centres.grad != 0).all()
    assert (method.weights.grad != 0).all()


def test_svi_with_enumeration_trains_everything(example):
    page = example("A mixture, by enumeration")
    before = {n: p.detach().clone() for n, p in page.clustered.named_parameters()}
    page.svi.step(page.views)
    after = dict(page.clustered.named_parameters())
    assert [n for n, p in after.items() if torch.equal(p, before[n])] == []
    with pytest.raises(ValueError, match=r"'cluster' is not in the guide.*TraceEnum_ELBO"):
        page.clustered.loss(page.views)


def test_a_guide_with_a_full_covariance(example):
    page = example("A guide with a full covariance")
    method = page.full
    assert method.elbo.kl == "analytic"
    posterior, scale, target = read(method, views=page.views)
    marginals = Independent(Normal(posterior.mean, posterior.stddev), 1)
    variance = scale.square()
    square = (target - marginals.mean).square() + marginals.variance
    likelihood = -0.5 * ((2 * pi * variance).log() + square / variance).sum(-1)
    prior = MultivariateNormal(torch.zeros(D), torch.eye(D))
    expected = (likelihood - kl_divergence(posterior, prior)).mean()
    found, error = bound(method, (posterior, scale, target))
    assert error < 0.05
    assert found == pytest.approx(expected.item(), abs=5 * error)
    assert encoder_gradient(method, page.views).abs().max() > 0


def test_a_method_of_ones_own(example):
    page = example("A method of your own")
    method, views = page.agreement, page.views
    norm = torch.nn.BatchNorm1d(D, affine=False)
    one, other = (norm(method.embed(view)) for view in views)
    # The page's standard deviation is that of N - 1.
    torch.testing.assert_close(
        method.loss(views).total, (one - other).square().mean() * (N - 1) / N, rtol=2e-3, atol=0
    )
    assert encoder_gradient(method, views).abs().max() > 0


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda posterior, scale: posterior, "got Independent"),
        (lambda posterior, scale: (posterior, None), r"got \(Independent, NoneType\)"),
        (
            lambda posterior, scale: (posterior, scale[..., :1]),
            r"got shapes \(\(16, 3\), \(16, 1\)",
        ),
    ],
)
def test_a_guide_that_shares_no_scale_is_an_error(example, returned, got):
    page = example("The model to extend")

    class Silent(page.Exact):
        def infer(self, source):
            return returned(*super().infer(source))

    method = page.VJE(page.Encoder(), page.Exact, page.PowerSpherical, None)
    method.inference = Silent(D)
    with pytest.raises(ValueError, match=rf"Silent\.infer must return Inferred.*\(16, 3\), {got}"):
        method.loss(page.views)
