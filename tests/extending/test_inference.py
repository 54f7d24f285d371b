"""Pyro's own inference on the model of the page, whose posterior and evidence are known."""

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal

TITLE = "Pyro's own inference"
V, N, D = 2, 8, 3


@pytest.fixture(scope="module")
def page(example):
    return example(TITLE)


@pytest.fixture(scope="module")
def exact(page):
    """The posterior of z, ``(N, D)``."""
    precision = 1 + V / page.VARIANCE
    return Normal(page.target.sum(0) / page.VARIANCE / precision, precision**-0.5)


def log_evidence(page):
    covariance = torch.eye(V) * page.VARIANCE + 1
    law = MultivariateNormal(torch.zeros(V), covariance)
    return law.log_prob(page.target.permute(1, 2, 0)).sum().item()


@pytest.mark.parametrize("name", ["normal", "diagonal"])
def test_autoguides_find_the_posterior(page, exact, name):
    guide = getattr(page, name)
    quantiles = guide.quantiles([0.1587, 0.5, 0.8413])["z"]
    low, middle, high = quantiles.detach().reshape(3, N, D)
    assert ((middle - exact.mean).abs() / exact.stddev).max() < 0.3
    torch.testing.assert_close((high - low) / 2, exact.stddev, rtol=0.25, atol=0)


def test_predictive_draws_new_views(page, exact):
    assert page.new.shape == (300, V, N, D)
    mean, variance = page.new.mean(0), page.new.var(0)
    expected = exact.variance + page.VARIANCE
    error = (expected / 300) ** 0.5
    assert ((mean - exact.mean).abs() < 5 * error).all()
    assert ((variance / expected).log().abs() < 5 * (2 / 300) ** 0.5).all()


def test_condition_gives_the_density_at_a_point(page):
    prior = Normal(0.0, 1.0).log_prob(torch.zeros(N, D)).sum()
    likelihood = Normal(0.0, page.VARIANCE**0.5).log_prob(page.target).sum()
    torch.testing.assert_close(page.log_joint, prior + likelihood)


def test_nuts_finds_the_posterior(page, exact):
    assert page.draws.shape == (200, N, D)
    # Draws of NUTS on a Gaussian are worth at least half as many independent ones.
    error = exact.stddev / 100**0.5
    assert ((page.draws.mean(0) - exact.mean).abs() < 5 * error).all()
    assert (page.draws.std(0) / exact.stddev).log().mean().abs() < 0.1


@pytest.mark.parametrize("name", ["importance", "renyi"])
def test_with_the_exact_posterior_every_bound_is_the_evidence(page, name):
    data = page.posterior, page.scale, page.target
    loss = getattr(page, name).loss(page.method.model, page.method.guide, *data)
    assert -loss == pytest.approx(log_evidence(page), rel=1e-4)


def test_bounds_are_in_their_order(page):
    """With another posterior: ELBO (α = 1) below α = 0.5 below α = 0 below the evidence."""
    wide = Normal(page.posterior.mean + 0.1, 1.2 * page.posterior.stddev).to_event(1)
    bounds = [
        [
            -bound.loss(page.method.model, page.method.guide, wide, page.scale, page.target)
            for _ in range(30)
        ]
        for bound in (pyro.infer.Trace_ELBO(50, **page.particles), page.renyi, page.importance)
    ]
    elbo, renyi, importance = torch.tensor(bounds).mean(1)
    kl = torch.distributions.kl_divergence(wide, page.posterior).sum()
    torch.testing.assert_close(elbo, log_evidence(page) - kl, rtol=0.01, atol=0)
    assert elbo + 0.5 < renyi < importance - 0.1
    error = torch.tensor(bounds[2]).std() / 30**0.5
    assert importance < log_evidence(page) + 5 * error
    assert page.log_evidence == pytest.approx(log_evidence(page), rel=1e-4)


def test_relations_of_the_model(page):
    found = page.relations
    assert found["sample_sample"] == {"z": [], "embedding": ["z"]}
    assert found["plate_sample"] == {"data": ["z", "embedding"], "view": ["embedding"]}
    assert found["observed"] == ["embedding"]


def test_the_model_can_be_drawn(page):
    pytest.importorskip("graphviz", reason="graphviz draws the model, and is not installed")
    drawing = pyro.render_model(page.method.model, (None, page.scale, page.target)).source
    assert "z -> embedding" in drawing
    assert "label=view" in drawing
