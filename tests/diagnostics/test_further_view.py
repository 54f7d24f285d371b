"""Predictions of one further view from several."""

import pytest
import torch
from torch import nn

from vje_pyro.diagnostics import FurtherView, predictive_check
from vje_pyro.diagnostics.predictive import predictive_sites
from vje_pyro.errors import VJEError
from vje_pyro.guides import ConjugateNormal

N, D = 40, 8


@pytest.fixture(scope="module")
def embeddings(pairs):
    """Five views of each image, ``(5, N, D)``."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, *pairs.embeddings.shape[1:], generator=generator)
    return pairs.embeddings[0] + 0.3 * noise


def test_of_one_view_it_is_the_check_of_a_pair(untrained_pairs):
    pairs = untrained_pairs(ConjugateNormal, N)
    further = FurtherView(pairs.method, pairs.embeddings[:1], pairs.embeddings[1], pairs.indices)
    torch.testing.assert_close(further.posterior.mean, pairs.posterior.mean[:N])
    torch.testing.assert_close(further.arguments()[1], pairs.scale[:N])
    check, expected = (predictive_check(data, 5) for data in (further, pairs))
    for one, other in ((check.angle, expected.angle), (check.radius, expected.radius)):
        torch.testing.assert_close(one.observed, other.observed[:N])
        assert one.draws.shape == (5, N)
        assert one.images.tolist() == list(range(N))


@pytest.mark.parametrize("k", [1, 4])
def test_pit_is_uniform_where_the_model_made_the_view(method, embeddings, k):
    further = FurtherView(method, embeddings[:k], embeddings[-1], torch.arange(N))
    torch.manual_seed(0)
    sites = predictive_sites(further, 20)
    made = (sites["radius"][..., None] * sites["direction"]).flatten(0, 1)
    again = FurtherView(method, embeddings[:k].repeat(1, 20, 1), made, torch.arange(N).repeat(20))
    check = predictive_check(again, 99, seed=1)
    for replicates in (check.angle, check.radius):
        inside = ((2 * replicates.pit - 1).abs() < 0.8).double().mean().item()
        assert inside == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / (20 * N)) ** 0.5)


def test_bad_input(method, embeddings):
    with pytest.raises(ValueError, match=r"a target \(N, D\) wanted, got \(2, 40, 8\) and \(3, 8"):
        FurtherView(method, embeddings[:2], embeddings[0, :3], torch.arange(3))
    with pytest.raises(ValueError, match="40 images wanted"):
        FurtherView(method, embeddings[:2], embeddings[4], torch.arange(3))
    with pytest.raises(VJEError, match=r"Linear cannot be diagnosed"):
        FurtherView(nn.Linear(2, 2), embeddings[:2], embeddings[4], torch.arange(N))
