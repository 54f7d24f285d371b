import math

import pytest
import torch
from pyro.ops.stats import effective_sample_size
from torch.testing import assert_close

from vje_pyro.diagnostics import compare_with_nuts
from vje_pyro.diagnostics._programs import log_density


def test_a_conjugate_posterior_is_recovered(conjugate_pairs):
    pairs = conjugate_pairs(num_images=6, dim=3, noise=0.5, shift=1.0, widen=0.5)
    result = compare_with_nuts(pairs, num_samples=40, num_data=4, num_chains=30, num_warmup=40)
    exact = pairs.method.exact_posterior(pairs.embeddings[1, :4].double())
    assert result.run.draws.shape == (30, 40, 4, 3)
    assert (result.run.r_hat < 1.1).all()
    assert result.run.ess.min() > 300
    assert result.run.divergences == 0
    error = exact.stddev / result.run.ess.sqrt()
    assert ((result.mean - exact.mean).abs() < 4 * error).all()
    # Draws of NUTS are antithetic in the mean, not in the square: that has a size of its own.
    square = (result.run.draws - exact.mean).square()
    size = effective_sample_size(square, chain_dim=0, sample_dim=1)
    assert ((result.scale / exact.stddev - 1).abs() < 4 / (2 * size).sqrt()).all()
    # The guide is one standard deviation off and half as wide.
    assert result.difference.mean().item() == pytest.approx(1, abs=0.05)
    assert result.ratio.mean().item() == pytest.approx(0.5, abs=0.03)
    overlap = math.sqrt(2 * 0.5 / 1.25) * math.exp(-1 / (4 * 1.25))
    assert result.overlap.mean().item() == pytest.approx(overlap, abs=0.03)


def test_the_exact_guide_overlaps_wholly(conjugate_pairs):
    result = compare_with_nuts(
        conjugate_pairs(), 25, num_data=1, num_chains=40, num_warmup=50, max_tree_depth=5
    )
    assert result.overlap.min() > 0.98
    assert result.difference.abs().max() < 0.2


def test_the_posterior_of_vje_is_that_of_importance_sampling(pairs):
    result = compare_with_nuts(
        pairs, 25, num_data=1, num_chains=40, num_warmup=50, max_tree_depth=5
    )
    assert (result.run.r_hat < 1.1).all()
    # An independent estimate: a Student-t about the draws' moments, weighted.
    few = pairs.subset([0])
    proposal = torch.distributions.StudentT(8.0, result.mean, 1.2 * result.scale)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = proposal.sample((50_000,))
    arguments = (None, few.scale[:1].double(), few.embeddings[1].double())
    log_w = log_density(pairs.method.model, arguments, {"z": z}) - proposal.log_prob(z).sum(-1)
    w = log_w.softmax(0)[..., None]
    assert 1 / w.square().sum(0).max() > 1000
    mean = (w * z).sum(0)
    scale = (w * (z - mean).square()).sum(0).sqrt()
    assert ((result.mean - mean).abs() < 4 * scale / result.run.ess.sqrt() + 0.03 * scale).all()
    assert_close(result.scale, scale, rtol=0.25, atol=0)
