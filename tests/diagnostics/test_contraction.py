import numpy as np
import pytest

from vje_pyro.diagnostics.contraction import contraction_figures

RNG = np.random.default_rng(0)
N, D = 60, 4


def posterior_scale(variance, k):
    """Of z ~ N(0, 1) from k observations of this variance."""
    return (variance / (k + variance)) ** 0.5


def test_equal_views_lie_on_the_predicted_curve():
    v = np.linspace(0.2, 2, D)
    scales = {k: np.broadcast_to(posterior_scale(v, k), (N, D)) for k in (1, 2, 4)}
    experts = np.broadcast_to(scales[1], (3, N, D))
    figures = contraction_figures(scales, experts, np.ones(D))
    for k in scales:
        expected = (v / (k + v)).mean()
        assert figures[f"views-{k}_variance"].value == pytest.approx(expected)
        assert figures[f"views-{k}_predicted-variance"].value == pytest.approx(expected)
        entropy = 0.5 * np.log(2 * np.pi * np.e * v / (k + v)).mean()
        assert figures[f"views-{k}_entropy"].value == pytest.approx(entropy)


def test_views_that_differ_lie_above_it():
    v = RNG.uniform(0.05, 5, (4, N, D))  # of each view
    scales = {k: (1 + (1 / v[:k]).sum(0)) ** -0.5 for k in (1, 4)}
    figures = contraction_figures(scales, posterior_scale(v, 1), np.ones(D))
    one, four = (
        [figures[f"views-{k}_{name}"] for name in ("variance", "predicted-variance")]
        for k in scales
    )
    expected = (1 / (1 + (1 / v).mean(0))).mean()
    assert one[1].value == pytest.approx(expected)
    assert one[1].low < expected < one[1].high < one[0].low
    assert four[0].value == pytest.approx(four[1].value)
    assert one[0].n == one[1].n == N


def test_an_expert_wider_than_the_prior_adds_nothing():
    wide = np.full((1, N, D), 3.0)
    figures = contraction_figures({1: np.full((N, D), 2.0)}, wide, np.full(D, 2.0))
    assert figures["views-1_predicted-variance"].value == pytest.approx(4.0)
