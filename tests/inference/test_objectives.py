import math

import pytest
import torch
from pyro.distributions import Independent, Normal
from torch.distributions import kl_divergence

from vje_pyro.guides import ConjugateNormal, Inferred
from vje_pyro.inference import (
    Conditional,
    Joint,
    Predictive,
    PredictiveLikelihood,
    Subsets,
    ordered_pairs,
)

V, B, D = 3, 4, 5
PRIOR = Normal(torch.zeros(D), 1.0).to_event(1)


def infer(s):
    """Every view is an observation of variance 0.5."""
    return Inferred(Independent(Normal(s / 1.5, torch.full_like(s, (1 / 3) ** 0.5)), 1), s.exp())


def embeddings():
    return torch.randn(V, B, D, generator=torch.Generator().manual_seed(0))


def test_conditional_data_are_the_ordered_pairs():
    s = embeddings()
    posterior, scale, target = Conditional().evidence(infer, s, 2 * s, PRIOR)
    source, other = ordered_pairs(s)
    torch.testing.assert_close(posterior.mean, source / 1.5)
    torch.testing.assert_close(scale, source.exp())
    torch.testing.assert_close(target, 2 * other)


def test_the_joint_posterior_sees_all_views_and_explains_all():
    s = embeddings()
    posterior, scale, target = Joint().evidence(infer, s, s, PRIOR)
    torch.testing.assert_close(posterior.mean, s.sum(0) / 0.5 / (1 + V / 0.5))
    torch.testing.assert_close(target, s)
    others = (0.5 * (s[1].exp().pow(-2) + s[2].exp().pow(-2))).rsqrt()
    torch.testing.assert_close(scale[0], others)


def test_a_prediction_sees_all_other_views():
    s = embeddings()
    posterior, scale, target = Predictive().evidence(infer, s, s, PRIOR)
    seen = (s.sum(0) - s).flatten(0, 1)
    torch.testing.assert_close(posterior.mean, seen / 0.5 / (1 + (V - 1) / 0.5))
    torch.testing.assert_close(target, s.flatten(0, 1))
    assert scale.shape == (V * B, D)


def test_one_view_cannot_be_predicted_from_others():
    s = embeddings()[:1]
    with pytest.raises(ValueError, match="objective=predictive needs at least two views, got 1"):
        Predictive().evidence(infer, s, s, PRIOR)


def test_subsets_are_of_every_size_and_never_empty():
    torch.manual_seed(0)
    s = torch.zeros(V, 3000, 1)
    size = Subsets()._present(s)[:, 0].sum(0)
    assert size.min() == 1
    shares = torch.bincount(size, minlength=V + 1)[1:] / 3000
    assert (shares - 1 / V).abs().max() < 4 * math.sqrt((1 / V) * (1 - 1 / V) / 3000)
    each_view = Subsets()._present(s).float().mean((1, 2))
    assert (each_view - 2 / 3).abs().max() < 4 * math.sqrt(2 / 9 / 3000)


def test_the_predictive_likelihood_is_the_log_of_the_mean():
    import pyro

    x = torch.randn(B, D)
    q = Normal(0.3 * x, 0.5).to_event(1)

    def model():
        with pyro.plate("data", B):
            z = pyro.sample("z", PRIOR)
            pyro.sample("x", Normal(z, 0.8).to_event(1), obs=x)

    def guide():
        with pyro.plate("data", B):
            pyro.sample("z", q)

    bound = PredictiveLikelihood(beta=0.25, num_particles=200_000)
    torch.manual_seed(0)
    terms = bound.terms(model, guide)
    exact = Normal(0.3 * x, math.sqrt(0.5**2 + 0.8**2)).log_prob(x).sum(-1)
    torch.testing.assert_close(terms["x"] + terms["predictive"], exact, rtol=0, atol=0.03)
    kl = kl_divergence(q, PRIOR.expand((B,)))
    expected = terms["x"] + terms["predictive"] - 0.25 * kl
    torch.testing.assert_close(bound.per_datum(terms), expected)
    one = PredictiveLikelihood().terms(model, guide)
    torch.testing.assert_close(one["predictive"], torch.zeros(B))


@pytest.mark.parametrize("num_views", [1, 2, 8])
def test_conjugate_sharing_gives_v_over_k_plus_v(num_views):
    torch.manual_seed(0)
    guide = ConjugateNormal(D, hidden_features=8).eval()
    posterior, scale = guide.infer(torch.randn(1, D).repeat(num_views, 1))
    from vje_pyro.inference import product_of_experts

    q = product_of_experts(posterior, PRIOR, torch.ones(num_views, 1, 1, dtype=torch.bool))
    v = scale[:1].square()
    torch.testing.assert_close(q.variance, v / (num_views + v))
