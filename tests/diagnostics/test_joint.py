"""The posterior of all views is judged in the model of which all views are observed."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.nn.functional import normalize
from torch.testing import assert_close

from studies.faults import FAULTS, LinearGaussian, make_pairs, true_noise
from vje_pyro.diagnostics import (
    amortisation_gap,
    compare_with_nuts,
    importance_weights,
    latent_usage,
    predictive_check,
    simulation_based_calibration,
    to_arviz,
)
from vje_pyro.diagnostics.arviz_adapter import read_group
from vje_pyro.diagnostics.importance import log_weights
from vje_pyro.guides import ConjugateNormal, DiagonalNormal
from vje_pyro.inference import Conditional, Joint, Predictive, Subsets, SymmetricELBO

N, D = 12, 3


@pytest.fixture(scope="module")
def exact():
    return make_pairs(FAULTS["none"], N, D)


@pytest.fixture(scope="module")
def overconfident():
    return make_pairs(FAULTS["guide overconfident by 2"], N, D)


def exact_posterior(pairs):
    """Mean and standard deviation of z given both views, from the formula."""
    variance = true_noise(D).square().double()
    precision = 1 + 2 / variance
    return pairs.embeddings.double().sum(0) / variance / precision, precision.rsqrt()


def log_evidence(pairs):
    """Log density of both views of each image: two normal features with one latent in common."""
    variance = true_noise(D).square()
    covariance = torch.ones(D, 2, 2) + torch.diag_embed(variance[:, None].expand(D, 2))
    law = MultivariateNormal(torch.zeros(2), covariance)
    return law.log_prob(pairs.embeddings.permute(1, 2, 0)).sum(-1)


@pytest.mark.parametrize("objective", [Conditional, Joint, Subsets, Predictive])
def test_the_objective_says_which_posterior_is_judged(untrained_pairs, objective):
    pairs = untrained_pairs(ConjugateNormal, objective=objective())
    method, embeddings = pairs.method, pairs.embeddings
    assert pairs.joint == (objective is not Conditional)
    expected = (Joint if pairs.joint else Conditional)().evidence(
        method.infer, embeddings, embeddings, method.prior_distribution()
    )
    posterior, scale, target = pairs.arguments()
    assert_close(posterior.mean, expected.posterior.mean)
    assert_close(posterior.stddev, expected.posterior.stddev)
    assert_close(scale, expected.scale)
    assert_close(target, expected.target)
    assert pairs.num_data == len(pairs.images) == (1 if pairs.joint else 2) * len(pairs)
    assert not pairs.one_view().joint


def test_weights_of_the_exact_posterior_are_the_evidence_of_both_views(exact):
    mean, stddev = exact_posterior(exact)
    assert_close(exact.moments[0].double(), mean, rtol=1e-4, atol=1e-5)
    assert_close(exact.moments[1].double(), stddev.expand(N, D), rtol=1e-4, atol=1e-5)
    result = importance_weights(exact, 100)
    evidence = log_evidence(exact).double()
    assert_close(result.log_weights, evidence.expand(100, -1), rtol=0, atol=1e-4)
    assert result.pareto_k.tolist() == [0.0] * N
    assert result.summary()["elbo_to_bound"]["n"] == N


def test_weights_are_the_formula_of_vje(untrained_pairs):
    pairs = untrained_pairs(ConjugateNormal, objective=Joint())
    log_w = log_weights(pairs, num_samples=3, seed=4)
    posterior, scale, target = pairs.arguments()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        z = posterior.sample((3,))
    method, norm = pairs.method, z.norm(dim=-1)
    expected = method.prior_distribution().log_prob(z) - posterior.log_prob(z)
    for view in (0, 1):
        direction = method.direction(
            loc=z / norm[..., None], scale=scale[view] / method.reference_radius
        )
        expected += direction.log_prob(normalize(target[view], dim=-1))
        expected += method.radius(loc=norm).log_prob(target[view].norm(dim=-1))
    assert_close(log_w, expected.double(), rtol=1e-5, atol=1e-4)


def test_the_mean_weight_is_the_bound_that_is_trained(untrained_pairs):
    pairs = untrained_pairs(ConjugateNormal, objective=Joint())
    bound = SymmetricELBO(num_particles=4000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = pairs.method
        terms = bound.terms(method.model, method.guide, *pairs.arguments())
    elbo = importance_weights(pairs, 4000, num_particles=()).bounds[1]
    assert_close(elbo, bound.per_datum(terms).double(), rtol=0, atol=0.5)
    assert abs((elbo - bound.per_datum(terms)).mean()) < 0.1


def test_the_gap_is_that_of_the_fault(exact, overconfident):
    gap = amortisation_gap(exact, num_steps=100).gap
    assert gap.abs().max() < 0.05
    wrong = amortisation_gap(overconfident, num_steps=300)
    mean, stddev = exact_posterior(overconfident)
    assert_close(wrong.loc.double(), mean, rtol=0, atol=0.05)
    assert_close(wrong.scale.double(), stddev.expand(N, D), rtol=0.1, atol=0)
    evidence = log_evidence(overconfident).double()
    assert_close(wrong.gap, evidence - wrong.amortised, rtol=0.1, atol=0.1)


def test_nuts_samples_the_posterior_given_both_views(exact):
    result = compare_with_nuts(exact, 40, num_data=4, num_chains=20, num_warmup=40)
    assert result.joint
    mean, stddev = exact_posterior(exact)
    assert ((result.mean - mean[:4]).abs() < 5 * stddev / result.run.ess.sqrt()).all()
    assert_close(result.scale, stddev.expand(4, D), rtol=0.2, atol=0)
    assert result.draws.shape == (800, 4, D)


def test_simulations_have_both_views(exact, overconfident):
    right, wrong = (
        simulation_based_calibration(p, "guide", num_simulations=400)
        for p in (exact, overconfident)
    )
    assert right.calibrated
    assert right.p_values.min() > 1e-3
    assert wrong.p_value < 1e-6
    nuts = simulation_based_calibration(
        exact, num_samples=20, num_simulations=50, num_bins=5, num_chains=10, num_warmup=30, thin=2
    )
    assert nuts.calibrated


def test_a_quantity_that_is_constant_has_uniform_ranks(exact):
    deaf = replace(exact, method=LinearGaussian(true_noise(D), uses_latent=False).eval())
    result = simulation_based_calibration(deaf, "guide", num_simulations=400)
    assert result.quantities[-1] == "log direction"
    assert result.calibrated


def test_the_latent_of_another_image_fits_both_views_worse(exact):
    result = latent_usage(exact)
    assert result.latent_gain.shape == (N,)
    assert not result.verdict.flagged
    deaf = replace(exact, method=LinearGaussian(true_noise(D), uses_latent=False).eval())
    assert latent_usage(deaf).verdict.flagged


def test_predictions_are_of_one_view_from_the_other(untrained_pairs):
    joint, conditional = (
        untrained_pairs(DiagonalNormal, objective=objective()) for objective in (Joint, Conditional)
    )
    ours, theirs = (predictive_check(p, 20).angle for p in (joint, conditional))
    assert torch.equal(ours.draws, theirs.draws)
    assert torch.equal(ours.images, theirs.images)


def test_the_export_has_a_latent_for_each_image(untrained_pairs):
    pairs = untrained_pairs(ConjugateNormal, objective=Joint())
    data = to_arviz(pairs, 5, seed=4)
    draws, views = ("chain", "draw", "datum"), ("chain", "draw", "datum", "view")
    dims = {
        ("posterior", "z"): (*draws, "dim"),
        ("posterior_predictive", "direction"): (*views, "dim"),
        ("posterior_predictive", "radius"): views,
        ("log_likelihood", "direction"): views,
        ("sample_stats", "lp"): draws,
        ("sample_stats", "elbo"): ("datum",),
        ("observed_data", "direction"): ("datum", "view", "dim"),
        ("constant_data", "scale"): ("datum", "view", "dim"),
    }
    assert {key: data[key[0]][key[1]].dims for key in dims} == dims
    assert data.attrs["posterior"] == "all views"
    z = torch.as_tensor(read_group(data, "posterior")["z"][0])
    prior = pairs.method.prior_distribution().log_prob(z)
    likelihood = read_group(data, "log_likelihood")
    observed = torch.as_tensor(sum(likelihood.values())[0].sum(-1))
    stats = read_group(data, "sample_stats")
    lp, weight = (torch.as_tensor(stats[name][0]) for name in ("lp", "log_weight"))
    assert_close(lp, (prior + observed).double(), rtol=1e-5, atol=1e-3)
    assert_close(weight, lp - pairs.posterior.log_prob(z), rtol=1e-5, atol=1e-3)
