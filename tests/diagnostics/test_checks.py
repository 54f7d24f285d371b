"""What all checks have in common: results for files, seeds, drawings, and what they refuse."""

import io
import json

import numpy as np
import pytest
import torch

from studies.faults import FAULTS, make_pairs
from vje_pyro import names
from vje_pyro.diagnostics import (
    Likelihood,
    amortisation_gap,
    block_importance,
    classifier_test,
    compare_likelihoods,
    compare_with_nuts,
    expected_coverage,
    feature_check,
    fit_temperature,
    importance_weights,
    latent_usage,
    load_check,
    predictive_check,
    simulation_based_calibration,
    to_arviz,
)
from vje_pyro.diagnostics.c2st import accuracies
from vje_pyro.diagnostics.check import told
from vje_pyro.diagnostics.contraction import contraction_figures
from vje_pyro.diagnostics.importance import importance_weighted_bound
from vje_pyro.diagnostics.likelihood_comparison import DIRECTIONS, heldout_scores
from vje_pyro.diagnostics.plots import Plot
from vje_pyro.diagnostics.recalibration import Recalibration
from vje_pyro.errors import VJEError
from vje_pyro.guides import DiagonalNormal
from vje_pyro.report.plots import draw
from vje_pyro.verbs.diagnose import _arrays


def temperature(pairs, seed):
    fitted = fit_temperature(pairs, num_samples=20, seed=seed)
    return Recalibration(fitted, fitted.apply(pairs.subset(slice(20))), fitted.apply(pairs))


def nuts(pairs, seed):
    few = {"num_chains": 2, "num_warmup": 5, "max_tree_depth": 3}
    return compare_with_nuts(pairs, 5, seed, num_data=4, **few)


def comparison(pairs, seed):
    likelihoods = {name: Likelihood(DIRECTIONS[name], None) for name in list(DIRECTIONS)[-2:]}
    few = {"num_steps": 2, "num_samples": 5, "seed": seed}
    return compare_likelihoods(pairs, pairs, likelihoods, DiagonalNormal, **few)


def sbc(pairs, seed, sampler="guide"):
    few = {"num_bins": 2, "num_chains": 2, "num_warmup": 5, "thin": 1, "max_tree_depth": 3}
    return simulation_based_calibration(pairs, sampler, 8, seed, num_simulations=40, **few)


MEASURES = {
    "importance": lambda p, seed: importance_weights(p, 100, seed),
    "blocks": lambda p, seed: block_importance(p, 100, seed, num_images=4, block_size=4),
    "latent": lambda p, seed: latent_usage(p, 4, seed),
    "amortisation": lambda p, seed: amortisation_gap(
        p.subset(slice(4)), 8, seed, num_steps=3, num_evaluation_samples=20
    ),
    "posterior_predictive": lambda p, seed: predictive_check(p, 10, seed),
    "prior_predictive": lambda p, seed: predictive_check(p, 10, seed, "prior"),
    "features": lambda p, seed: feature_check(p, 10, seed, block_size=4),
    "prior_features": lambda p, seed: feature_check(p, 10, seed, "prior", block_size=4),
    "temperature": temperature,
    "sbc_guide": sbc,
    "nuts": nuts,
    "c2st": lambda p, seed: classifier_test(nuts(p, seed)),
    "comparison": comparison,
    "sbc_nuts": lambda p, seed: sbc(p, seed, "nuts"),
}


@pytest.mark.parametrize("name", names.CHECKS)
def test_results_are_json_repeat_for_a_seed_and_are_drawn_from_their_files(pairs, name, capfd):
    state = torch.get_rng_state()
    first, again, other = (MEASURES[name](pairs, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    figures, repeated, different = (r.summary() | {"seconds": 0} for r in (first, again, other))
    assert capfd.readouterr() == ("", "")
    figures = json.loads(json.dumps(figures, allow_nan=False))
    assert figures == repeated
    assert figures != different
    file = io.BytesIO()
    np.savez(file, **_arrays(first))
    file.seek(0)
    rows, plots = load_check(name).show(figures, np.load(file))
    assert rows
    assert all(label and value for label, value in rows)
    assert all("<svg" in draw(plot) and plot.caption for plot in plots)


def test_a_plot_of_no_known_kind_is_refused():
    with pytest.raises(TypeError, match="no drawing for a plot of the kind Plot"):
        draw(Plot("title", "caption", "x"))


def test_a_figure_is_told_with_its_interval_and_one_sign_of_percent():
    figure = {"value": 0.5, "low": 0.25, "high": 0.75}
    assert told(figure) == "0.50 [0.25, 0.75]"
    assert told(figure, percent=True) == "50.0 % [25.0, 75.0]"
    assert told(dict.fromkeys(figure, 1.0), percent=True) == "100.0 %"


ONE = np.ones((6, 4))
HALF = torch.full((2,), 0.5)
REFUSED = {
    "importance": (lambda p: importance_weights(p, 99), r"at least 100 .* got 99"),
    "particles": (lambda p: importance_weights(p, 100, num_particles=(0, 1)), "must be positive"),
    "bound": (
        lambda p: importance_weighted_bound(torch.zeros(10, 2), 3),
        "divide the number of draws, 10, got 3",
    ),
    "blocks": (lambda p: block_importance(p, 99), r"at least 100 .* got 99, 16 and 16"),
    "latent": (lambda p: latent_usage(p, 0), "num_samples must be positive, got 0"),
    "latent of one": (lambda p: latent_usage(p.subset([0])), "at least 2, got 1"),
    "odd": (lambda p: amortisation_gap(p, 7), r"even .* got 7 and 500"),
    "few": (lambda p: amortisation_gap(p, 8, num_evaluation_samples=1), "got 8 and 1"),
    "draws": (lambda p: predictive_check(p, 1), "num_samples must be at least 2, got 1"),
    "kind": (lambda p: predictive_check(p, kind="both"), "'posterior' or 'prior', got 'both'"),
    "cold": (lambda p: predictive_check(p, temperature=0.0), r"positive and finite, got 0\.0"),
    "features": (lambda p: feature_check(p, kind="both"), "'posterior' or 'prior', got 'both'"),
    "feature draws": (lambda p: feature_check(p, 1), "got 1 and 16"),
    "family": (lambda p: fit_temperature(p, "platt"), r"must be one of .* got 'platt'"),
    "sampler": (
        lambda p: simulation_based_calibration(p, "hmc"),
        "'nuts' or 'guide', got 'hmc'",
    ),
    "simulations": (
        lambda p: simulation_based_calibration(p, num_simulations=49),
        "49 simulations and 10 bins",
    ),
    "chains": (
        lambda p: simulation_based_calibration(p, num_samples=7),
        "a multiple of num_chains, 5, got 7",
    ),
    "nuts": (lambda p: compare_with_nuts(p, 3), "got 3 samples, 8 chains"),
    "nuts data": (lambda p: compare_with_nuts(p, num_data=0), "num_data must be positive, got 0"),
    "shapes": (lambda p: expected_coverage(torch.zeros(3), torch.zeros(4)), "of one length"),
    "nothing": (lambda p: expected_coverage(torch.zeros(0), torch.zeros(0)), "of one length"),
    "pit": (lambda p: expected_coverage(HALF + 0.6, torch.arange(2)), "must lie in"),
    "nan": (lambda p: expected_coverage(HALF * torch.nan, torch.arange(2)), "must lie in"),
    "level": (
        lambda p: expected_coverage(HALF, torch.arange(2), [0.5, 1.0]),
        r"levels must lie in \(0, 1\)",
    ),
    "at": (
        lambda p: expected_coverage(HALF, torch.arange(2), [0.5]).at(0.6),
        r"level 0\.6 is not among",
    ),
    "tail": (
        lambda p: expected_coverage(HALF, torch.arange(2), [0.5]).at(0.5, "upper"),
        "tail must be",
    ),
    "one likelihood": (
        lambda p: compare_likelihoods(p, p, {"one": None}, DiagonalNormal),
        "at least two likelihoods",
    ),
    "no draws": (lambda p: heldout_scores(p, 0), "num_samples must be at least 1"),
    "contraction": (
        lambda p: contraction_figures({1: ONE[:3]}, ONE[None], ONE[0]),
        r"scales of \(6, 4\) wanted",
    ),
    "no scale": (
        lambda p: contraction_figures({1: 0 * ONE}, ONE[None], ONE[0]),
        "all must be positive",
    ),
    "export": (lambda p: to_arviz(p, 0), "num_samples must be at least 1, got 0"),
    "memory": (
        lambda p: to_arviz(p, 1_000_000),
        r"1000000 draws of 40 images in 8 .* take 7\.2 GiB",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(pairs, case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(pairs)


def test_what_users_can_mend_is_an_error_for_users(conjugate_pairs):
    with pytest.raises(VJEError, match="needs 4 images or more, got 3"):
        accuracies(torch.zeros(5, 3, 2), torch.zeros(5, 3, 2))
    with pytest.raises(VJEError, match="needs 10 images or more, got 9"):
        feature_check(make_pairs(FAULTS["none"], 9, 3))
    with pytest.raises(VJEError, match="Conjugate has no law of the direction"):
        comparison(conjugate_pairs(), 0)
