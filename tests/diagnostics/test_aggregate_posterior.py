"""The densities of the training population against loops over the formula."""

from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Independent, Normal
from torch import nn
from torch.nn.functional import normalize

from vje_pyro.data import ImageArray, Normalize
from vje_pyro.diagnostics.aggregate_posterior import AggregatePosterior
from vje_pyro.diagnostics.likelihood_scores import between_scores, likelihood_scores
from vje_pyro.diagnostics.posterior_gaussian import PosteriorGaussian
from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation.detectors import Mahalanobis
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.guides import AmortisedGuide, DiagonalNormal, Inferred
from vje_pyro.method import Method
from vje_pyro.models import VJE

D = 5


class Encoder(nn.Module):
    num_features = D

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, D)

    def forward(self, images):
        return self.linear(images.flatten(1))


def make(**overrides):
    pyro.clear_param_store()
    torch.manual_seed(0)
    arguments = {
        "encoder": Encoder(),
        "guide": partial(DiagonalNormal, hidden_features=8),
        "direction": partial(SphericalStudentT, df=1.0),
        "radius": partial(RadialStudentT, scale=1.0, df=1.0),
    }
    return VJE(**(arguments | overrides)).eval()


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, D, generator=generator) for n in (12, 7, 4)]


@torch.no_grad()
def densities(method, bank, s):
    """Direction, direction and radius, and latent densities, one at a time."""
    rows = []
    loc_of_s = method.infer(s).posterior.mean
    posterior, scale = method.infer(bank)
    for target, loc in zip(s, loc_of_s, strict=True):
        terms = []
        for z, sigma in zip(posterior.mean, scale, strict=True):
            direction = method.direction(loc=normalize(z, dim=0), scale=sigma / D**0.5)
            log_u = direction.log_prob(normalize(target, dim=0))
            log_r = method.radius(loc=z.norm()).log_prob(target.norm()) if method.radius else 0.0
            normal = torch.distributions.Normal(z, sigma)
            terms.append([log_u, log_u + log_r, normal.log_prob(loc).sum()])
        rows.append(-np.log(np.exp(np.array(terms, np.float64)).mean(0)))
    return np.array(rows).T


@pytest.mark.parametrize("radius", [True, False])
def test_densities_are_the_formula(embeddings, radius):
    method = make() if radius else make(radius=None)
    bank, held_out, s = embeddings
    scores = AggregatePosterior(method, bank, held_out)(s)
    direction, both, latent = densities(method, bank, s)
    assert scores["population"] == pytest.approx(direction, rel=1e-5)
    assert scores["population-radius"] == pytest.approx(both, rel=1e-5)
    assert scores["latent"] == pytest.approx(latent, rel=1e-5)
    typical = np.median(densities(method, bank, held_out)[1])
    assert scores["typicality"] == pytest.approx(np.abs(both - typical), abs=1e-4)
    assert (direction != both).all() == radius


def test_chunks_change_nothing(embeddings, monkeypatch):
    bank, held_out, s = embeddings
    whole = AggregatePosterior(make(), bank, held_out)(s)
    monkeypatch.setattr("vje_pyro.diagnostics.aggregate_posterior._ELEMENTS_CPU", 1)
    for name, values in AggregatePosterior(make(), bank, held_out)(s).items():
        assert values == pytest.approx(whole[name], rel=1e-5)


class Faithful(AmortisedGuide):
    """The posterior is around the embedding."""

    def __init__(self, num_features):
        super().__init__()

    def infer(self, source):
        scale = torch.full_like(source, 0.3)
        return Inferred(Independent(Normal(source, scale), 1), scale)


def test_a_stranger_is_less_likely_than_the_population():
    method = make(guide=Faithful)
    generator = torch.Generator().manual_seed(2)
    center = torch.tensor([3.0, 0, 0, 0, 0])
    bank, held_out, near = (
        center + 0.3 * torch.randn(n, D, generator=generator) for n in (200, 50, 20)
    )
    population, gaussian = (
        AggregatePosterior(method, bank, held_out),
        PosteriorGaussian(method, bank),
    )
    stranger, own = (
        population(s) | gaussian(s) for s in (torch.tensor([[-9.0, 9.0, -9.0, 0.0, 9.0]]), near)
    )
    for name in ("population", "population-radius", "typicality", "posterior-gaussian"):
        assert stranger[name] > own[name].max(), name


def test_posterior_gaussian_is_the_distance_of_location_and_log_scale():
    method = make()
    generator = torch.Generator().manual_seed(4)
    bank, s = torch.randn(300, D, generator=generator), torch.randn(6, D, generator=generator)
    detector = PosteriorGaussian(method, bank)
    bank_law, law = (method.infer(part).posterior for part in (bank, s))
    rows, x = (torch.cat([p.mean, p.stddev.log()], 1).detach().numpy() for p in (bank_law, law))
    expected = Mahalanobis(rows)(x)
    assert detector(s)["posterior-gaussian"] == pytest.approx(expected, rel=1e-4)
    difference = (x - rows.mean(0)).astype(np.float64)
    inverse = np.linalg.inv(detector.gaussian.covariance_)
    by_hand = np.einsum("ni,ij,nj->n", difference, inverse, difference)
    assert expected == pytest.approx(by_hand, rel=1e-3)


def test_likelihood_scores_are_the_terms_with_their_sign():
    method = make()
    images = torch.randn(6, 1, 4, 4)
    torch.manual_seed(3)
    terms = method.log_likelihood(images, images, 16)
    torch.manual_seed(3)
    scores = likelihood_scores(method, images)
    assert set(scores) == {"elbo", "direction", "radius", "kl"}
    assert torch.equal(scores["kl"], terms["kl"])
    for name in ("elbo", "direction", "radius"):
        assert torch.equal(scores[name], -terms[name])


def test_between_scores_go_around_a_ring():
    class Stub:
        def log_likelihood(self, source, target, num_samples):
            value = source.flatten(1).mean(1) + 10 * target.flatten(1).mean(1)
            return {"elbo": -value, "direction": value, "radius": value, "kl": 3 * value}

    views = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1, 1).expand(3, 2, 1, 1, 1)
    pairs = torch.tensor([1 + 20.0, 2 + 40.0, 4 + 10.0])
    scores = between_scores(Stub(), views)
    assert scores["between"].tolist() == pytest.approx([-2 * pairs.mean().item()] * 2)
    assert scores["between-variance"].tolist() == pytest.approx([(2 * pairs).var().item()] * 2)
    assert scores["between-direction"].tolist() == pytest.approx([-pairs.mean().item()] * 2)
    with pytest.raises(ValueError, match="at least two, got 1"):
        between_scores(Stub(), views[:1])


def images(n, seed):
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 1, 4, 4), np.uint8))
    return ImageArray(pixels, torch.arange(n) % 2)


def flipped_and_plain(batch):
    plain = NORMALIZE(batch)
    return torch.stack([plain, plain.flip(-1)])


NORMALIZE = Normalize((0.5,), (0.25,))


def test_scorer_gives_every_score_of_every_image_and_restores_the_state():
    method, train, test = make(), images(60, 0), images(9, 1)
    method.train()
    before = torch.random.get_rng_state()
    state = {k: v.clone() for k, v in method.state_dict().items()}
    scorer = Scorer(method, train, NORMALIZE, flipped_and_plain, num_views=2, labelled=False)
    scores = scorer(test, batch_size=9)
    assert method.training
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in method.state_dict().items())
    assert {v.shape for v in scores.values()} == {(9,)}
    single = {"elbo", "direction", "radius", "kl", "population", "population-radius"}
    single |= {"typicality", "latent", "posterior-gaussian", "niw-latent", "dose"}
    expected = {"knn", "mahalanobis", "niw", "between", "between-variance", "between-direction"}
    assert set(scores) == expected | single | {f"{name}-views" for name in single}
    again = scorer(test, batch_size=9)
    assert all(np.array_equal(again[name], scores[name]) for name in scores)
    method.eval()
    with torch.no_grad():
        s = [method.encode(view) for view in flipped_and_plain(test.images)]
    population = next(d for d in scorer.densities if isinstance(d, AggregatePosterior))
    means = sum(population(view)["population"] for view in s) / 2
    assert scores["population-views"] == pytest.approx(means, rel=1e-5)
    assert scores["population"] == pytest.approx(population(s[0])["population"], rel=1e-5)


def test_p_values_are_read_from_the_images_given_for_it():
    method, train = make(), images(60, 0)
    own = Scorer(method, train, NORMALIZE, labelled=False)
    other = Scorer(method, train, NORMALIZE, labelled=False, calibration=images(400, 2))
    assert len(own.p_values["dose"].sorted) == 12  # a fifth of the training images
    assert len(other.p_values["dose"].sorted) == 400
    scores = other(images(400, 3))["dose"]
    assert scores == pytest.approx(own(images(400, 3))["dose"])
    assert np.mean(other.p_values["dose"](scores) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_a_method_without_posterior_has_distances_only():
    class Plain(Method):
        loss = None

    method = Plain(Encoder())
    scores = Scorer(method, images(60, 0), NORMALIZE, labelled=False)(images(9, 1))
    assert set(scores) == {"knn", "mahalanobis", "niw"}


def test_nan_scores_are_refused_by_name():
    class Broken(VJE):
        def log_likelihood(self, source, target, num_samples=16):
            terms = super().log_likelihood(source, target, num_samples)
            return terms | {"kl": torch.full_like(terms["kl"], float("nan"))}

    method = make()
    method.__class__ = Broken
    with pytest.raises(NonFiniteError, match=r"images \(kl\) have a NaN score"):
        Scorer(method, images(60, 0), NORMALIZE, labelled=False)(images(4, 1))
