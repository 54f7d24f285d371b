import math

import pytest
import torch
from torch.testing import assert_close

from vje_pyro.diagnostics import amortisation_gap
from vje_pyro.guides import AffineCouplingFlow, LowRankNormal


def test_the_optimum_of_a_conjugate_model_is_found(conjugate_pairs):
    pairs = conjugate_pairs(dim=4, shift=1.5, widen=1.5)
    result = amortisation_gap(pairs)
    exact = pairs.method.exact_posterior(pairs.target)
    assert_close(result.loc, exact.mean, rtol=0, atol=0.02)
    assert_close(result.scale, exact.stddev, rtol=0.02, atol=0)
    # The optimum's ELBO is the evidence, and the gap the KL from guide to posterior.
    assert_close(
        result.optimised, pairs.method.log_evidence(pairs.target).double(), rtol=0, atol=0.02
    )
    kl = 4 * (0.5 * (1.5**2 + 1.5**2 - 1) - math.log(1.5))
    assert ((result.gap - kl).abs() < 4 * result.error).all()
    assert result.gap.mean().item() == pytest.approx(kl, rel=0.02)
    assert not result.kept.any()


def test_an_exact_guide_has_no_gap(conjugate_pairs):
    result = amortisation_gap(conjugate_pairs(), num_steps=100)
    assert result.gap.abs().max() < 0.01


def test_the_gap_of_a_trained_guide_is_not_negative(pairs):
    result = amortisation_gap(pairs, num_steps=150)
    assert result.gap.shape == (80,)
    assert (result.gap > -4 * result.error - 1e-3).all()
    assert result.gap.mean() > 0.05  # the guide sees one view, the free Gaussian the other
    elbo = result.summary()["elbo_amortised"]["value"]
    assert elbo == pytest.approx(result.amortised.mean().item())


def test_a_fit_that_fails_is_not_kept(pairs):
    few = pairs.subset(slice(5))
    # Steps of a hundred standard deviations lead nowhere.
    result = amortisation_gap(few, num_steps=3, learning_rate=100.0)
    assert result.kept.all()
    assert_close(result.loc, few.posterior.mean)
    assert_close(result.gap, torch.zeros_like(result.gap))


def test_groups_of_images_give_the_same_order(conjugate_pairs, monkeypatch):
    pairs = conjugate_pairs(num_images=7, shift=1.0)
    monkeypatch.setattr("vje_pyro.diagnostics.amortisation._GROUP_ELEMENTS", 2 * 64 * 2 * 3)
    result = amortisation_gap(pairs, num_steps=100)
    assert_close(result.loc, pairs.method.exact_posterior(pairs.target).mean, rtol=0, atol=0.02)


@pytest.mark.parametrize("guide", [LowRankNormal, AffineCouplingFlow])
def test_guides_that_are_not_diagonal(untrained_pairs, guide):
    pairs = untrained_pairs(guide)
    result = amortisation_gap(pairs, num_samples=16, num_steps=30, num_evaluation_samples=50)
    assert result.gap.mean() > 0  # nothing was trained
    assert result.error.isfinite().all()
