import math

import pytest
import torch
from scipy.stats import norm

from studies.faults import FAULTS, make_pairs
from vje_pyro.diagnostics import classifier_test, compare_with_nuts
from vje_pyro.diagnostics.c2st import C2ST, accuracies


def draws(seed, dim=8, num_draws=60):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, num_draws, 8, dim, generator=generator)


def of(first, second):
    return C2ST(accuracies(first, second), len(first), r_hat_max=1.0, joint=True)


def test_false_alarms_are_as_rare_as_stated():
    p_values = torch.tensor([of(*draws(seed)).p_value for seed in range(60)])
    # Of 60, 1 % is 0.6 and 10 % is 6; more than 5 and 15 have probabilities below 0.1 %.
    assert (p_values < 0.01).sum() <= 5
    assert (p_values < 0.1).sum() <= 15


def test_the_accuracy_is_that_of_the_best_classifier():
    first, second = draws(0, dim=2, num_draws=2000)
    shifted = of(first, second + 1.0)
    # The likelihood ratio of two normals at a distance of √2 decides right in Φ(√2/2).
    best = norm.cdf(math.sqrt(2) / 2)
    assert shifted.accuracy.mean().item() == pytest.approx(best, abs=0.02)
    assert shifted.verdict.flagged
    # A scale is seen through the squares: in one dimension, 2Φ(c) − 1 where the densities cross.
    wide = of(first[..., :1], 2 * second[..., :1])
    cut = math.sqrt(2 * math.log(2) / (1 - 0.25))
    best = 0.5 * (2 * norm.cdf(cut) - 1) + norm.cdf(-cut / 2)
    assert wide.accuracy.mean().item() == pytest.approx(best, abs=0.02)


def test_draws_that_depend_on_each_other_are_no_alarm():
    # Chains of five places each: sixty draws say no more than five.
    flagged = 0
    for seed in range(20):
        chains = draws(100 + seed, dim=4, num_draws=5)[0].repeat(12, 1, 1)
        flagged += of(draws(seed, dim=4)[0], chains).verdict.flagged
    assert flagged <= 2


def test_the_guide_beside_nuts():
    def judged(fault):
        pairs = make_pairs(FAULTS[fault], 8, 16)
        return classifier_test(compare_with_nuts(pairs, 50, num_chains=6, num_warmup=60))

    right, wrong = judged("none"), judged("guide overconfident by 1.5")
    assert not right.verdict.flagged
    low, high = right.null_interval
    assert low < 0.5 < high < 0.56
    assert wrong.verdict.flagged
    assert wrong.accuracy.mean() > 0.7


def test_nuts_that_has_not_converged_is_named():
    result = C2ST(torch.full((8,), 0.9), 100, r_hat_max=1.5, joint=False)
    assert "NUTS has not converged" in result.verdict.text
    assert "has not seen the target" in result.verdict.text
    assert result.error > 0  # equal accuracies are not known exactly
