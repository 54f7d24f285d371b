from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from vje_pyro.diagnostics import importance_weights
from vje_pyro.diagnostics.importance import log_weights, pareto_k


def test_weights_of_the_exact_posterior_are_the_evidence(conjugate_pairs):
    pairs = conjugate_pairs()
    result = importance_weights(pairs, num_samples=100, num_particles=(10,))
    evidence = pairs.method.log_evidence(pairs.target).double()
    assert_close(result.log_weights, evidence.expand(100, -1), rtol=0, atol=1e-4)
    assert result.pareto_k.tolist() == [0.0] * 20
    assert_close(result.ess, torch.full((20,), 100.0, dtype=torch.float64), rtol=1e-3, atol=0)
    assert_close(result.bounds[1], result.bounds[10], rtol=0, atol=1e-4)


def test_weights_are_the_formula_of_vje(pairs):
    log_w = log_weights(pairs, num_samples=3, seed=4)
    posterior, scale, target = pairs.arguments()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        z = posterior.sample((3,))
    method = pairs.method
    norm, radius = z.norm(dim=-1), target.norm(dim=-1)
    direction = method.direction(loc=z / norm[..., None], scale=scale / method.reference_radius)
    expected = (
        method.prior_distribution().log_prob(z)
        + direction.log_prob(target / radius[:, None])
        + method.radius(loc=norm).log_prob(radius)
        - posterior.log_prob(z)
    )
    assert log_w.shape == (3, 80)
    assert_close(log_w, expected.double(), rtol=1e-5, atol=1e-4)


def test_a_narrow_guide_has_a_large_k(conjugate_pairs):
    def k(widen):
        return importance_weights(
            conjugate_pairs(dim=1, widen=widen), num_samples=2000
        ).pareto_k.median()

    # In one dimension the weights of a guide that is narrower by f have a tail of shape 1 - f²,
    # which the fit approaches from below; a wider one's are bounded. A wrong sign swaps the two.
    assert k(1.5) < 0.2 < k(0.8) < 0.5
    assert 0.7 < k(0.3) < 1.0


def test_data_are_not_pooled(pairs, conjugate_pairs):
    narrow = conjugate_pairs(num_images=64, widen=0.8)
    k = importance_weights(narrow, num_samples=2000).pareto_k
    assert k.median() < 0.7
    pooled = pareto_k(log_weights(narrow, 2000).sum(1, keepdim=True))
    assert pooled > 1.2  # the same guide, judged by the product of all weights
    # And the weights of one datum are its own: those of its neighbours do not enter.
    log_w = log_weights(pairs, 100)
    log_w[:, 1:] = torch.randn(100, 79) * 50
    assert_close(pareto_k(log_w)[0], importance_weights(pairs, 100).pareto_k[0])


def test_bounds_rise_to_the_evidence(conjugate_pairs):
    pairs = conjugate_pairs(num_images=50, dim=4, shift=1.0, widen=1.2)
    result = importance_weights(pairs, num_samples=1000)
    bounds = [result.bounds[k] for k in (1, 10, 100, 1000)]
    for lower, upper in pairwise(bounds):
        assert (upper >= lower).all()
    gaps = [(pairs.method.log_evidence(pairs.target) - bound).mean().item() for bound in bounds]
    # The first gap is KL(q || posterior) of the shifted and wider Gaussian.
    kl = 4 * 0.5 * (1.2**2 + 1.0**2 - 1 - 2 * torch.log(torch.tensor(1.2)).item())
    assert gaps[0] == pytest.approx(kl, rel=0.05)
    assert gaps[0] > gaps[1] > gaps[2] > abs(gaps[3])
    assert abs(gaps[3]) < 0.05


def test_a_number_of_particles_that_does_not_divide(pairs):
    assert list(importance_weights(pairs, 200, num_particles=(3, 100, 1000)).bounds) == [1, 100]


def test_degenerate_weights_have_a_k_without_a_warning():
    columns = torch.zeros(200, 3)
    columns[:, 1] = torch.randn(200, generator=torch.Generator().manual_seed(0))
    columns[7, 2] = -torch.inf
    k = pareto_k(columns)
    assert k[0] == 0
    assert 0 < k[1] < 1
    assert k[2] == torch.inf


def test_chunks_cover_all_draws(pairs, monkeypatch):
    monkeypatch.setattr("vje_pyro.diagnostics._programs._CHUNK_BYTES", 4 * 80 * 8 * 7)
    log_w = log_weights(pairs, 100)
    assert log_w.shape == (100, 80)
    assert len(log_w[:, 0].unique()) == 100


def test_the_summary_has_intervals_over_images(pairs):
    summary = importance_weights(pairs, 200, num_particles=(1, 10, 100)).summary()
    elbo = summary["bounds"]["1"]
    assert elbo["low"] < elbo["value"] < elbo["high"]
    assert elbo["n"] == 40
    assert "bootstrap over images" in elbo["interval"]
    assert summary["elbo_to_bound"]["value"] == pytest.approx(
        summary["bounds"]["100"]["value"] - elbo["value"]
    )
