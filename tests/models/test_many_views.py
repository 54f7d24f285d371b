import copy
import math

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import MCMC, NUTS, Trace_ELBO
from torch.nn.functional import normalize

from vje_pyro.diagnostics.many_views import (
    direction_log_prob,
    further_view_check,
    importance_of_views,
    rank_p_values,
    simulated_ranks,
)
from vje_pyro.errors import NonFiniteError
from vje_pyro.inference import ImportanceWeightedELBO
from vje_pyro.models import ManyViews

D = 16


def true_model(df=3.0, num_latents=D):
    """Of known parameters, with features of unequal correlation."""
    torch.manual_seed(0)
    model = ManyViews(num_latents, num_latents).eval().requires_grad_(False)
    rho = torch.linspace(0.8, 0.3, num_latents)
    model.correlation.copy_(rho)
    model.log_loading.copy_(rho.log() / 2)
    model.log_noise.copy_((1 - rho).log() / 2)
    model.log_df.fill_(math.log(df))
    return model


class WrongLoading:
    """A model whose posterior is that of another loading than what it generates has."""

    def __init__(self, model):
        self._right, self._wrong = model, copy.deepcopy(model)
        self._wrong.log_loading.add_(0.6)
        self.posterior, self.draw = self._wrong.posterior, self._wrong.draw

    def __getattr__(self, name):
        return getattr(self._right, name)


@pytest.fixture(scope="module")
def model():
    return true_model()


@pytest.fixture(scope="module")
def fitted(model):
    """A model fitted to what another one generates, embedded in 20 features."""
    torch.manual_seed(1)
    views, _ = model.simulate(6, 2000)
    embeddings = views @ torch.randn(D, 20) + 1.0
    return ManyViews(20, D, hidden_features=32).fit(
        embeddings, num_steps=100, batch_size=64, num_particles=8
    ), embeddings


def test_the_guide_fits_the_model_for_any_bound_of_pyro(model):
    views, _ = model.simulate(3, 4)
    assert math.isfinite(Trace_ELBO(max_plate_nesting=2).loss(model.model, model.guide, views))
    assert math.isfinite(ImportanceWeightedELBO(3).loss(model.model, model.guide, views))


@pytest.mark.parametrize("num_views", [1, 4])
def test_the_mixture_is_all_but_the_posterior(model, num_views):
    torch.manual_seed(2)
    views, _ = model.simulate(num_views, 10)
    right, wrong = (importance_of_views(m, views, 200) for m in (model, WrongLoading(model)))
    assert right.pareto_k.median() < 0.5
    gap, wrong_gap = ((x.bounds[200] - x.bounds[1]).median() for x in (right, wrong))
    assert gap < 0.25 < wrong_gap


def test_the_evidence_of_weights_is_that_of_quadrature_over_two_lengths():
    torch.manual_seed(3)
    model = true_model(num_latents=64)
    directions = model.direction(torch.randn(6, 64), torch.ones(2, 6)).sample()
    weight = torch.tensor([[0.1, 0.3, 1.0, 1.0, 3.0], [0.1, 3.0, 0.2, 1.0, 1.0]]).T[..., None]
    found = model.log_evidence(directions, weight)
    # Of every feature, two views are normal with variance one and this covariance.
    loading, noise = (2 * model.log_loading).exp(), (2 * model.log_noise).exp() / weight[..., None]
    covariance = loading / (loading + noise).sqrt().prod(1)
    grid = torch.linspace(0.02, 20, 100)
    lengths = torch.cartesian_prod(grid, grid).T
    one, two = directions[..., None] * lengths[:, None, None]
    expected = []
    for c in covariance[..., None]:
        form = ((one**2 + two**2 - 2 * c * one * two) / (1 - c**2)).sum(1)
        log_density = 63 * lengths.log().sum(0) - form / 2 - (1 - c**2).log().sum() / 2
        expected.append(log_density.logsumexp(-1))
    expected = torch.stack(expected)
    assert expected.std(0).min() > 1
    torch.testing.assert_close(found - found.mean(0), expected - expected.mean(0), atol=0.4, rtol=0)


def test_draws_have_the_moments_that_importance_sampling_finds(model):
    torch.manual_seed(4)
    views, _ = model.simulate(3, 4)
    directions = normalize(views, dim=-1)
    weight = model.weight_prior().sample((10_000, 3, 4))
    q = model.posterior_given_weights(directions, weight)
    z = q.sample()
    proposed = model.weight_prior().log_prob(weight).sum(1) + q.log_prob(z)[:, 0]
    share = (model.log_joint(views, z[:, 0], weight) - proposed).double().softmax(0)
    assert (1 / share.square().sum(0) > 200).all()  # of the reference, effectively
    mean = (share[..., None] * z[:, 0]).sum(0)
    deviation = (share[..., None] * (z[:, 0] - mean).square()).sum(0).sqrt()
    draws = model.draw(views, 2000)
    assert ((draws.mean(0) - mean) / deviation).abs().max() < 0.3
    torch.testing.assert_close(draws.std(0).mean(-1), deviation.mean(-1).float(), rtol=0.1, atol=0)


def test_the_law_of_a_direction_is_its_mean_over_weights(model):
    torch.manual_seed(5)
    z = torch.randn(3, D)
    directions = model.direction(z, torch.full((2, 3), 0.7)).sample()
    weight = model.weight_prior().sample((20_000, 2, 3))
    sampled = model.direction(z, weight).log_prob(directions).exp().double()
    found = direction_log_prob(model, z[None], directions).exp()
    error = 4 * sampled.std(0) / 20_000**0.5 + 1e-3 * sampled.mean(0)
    assert ((found - sampled.mean(0)).abs() < error).all()


def test_given_its_weight_a_view_has_the_posterior_that_importance_sampling_finds(model):
    torch.manual_seed(3)
    z, weight = torch.randn(1, D), torch.full((1, 1), 1.5)
    direction = model.direction(z, weight).sample()
    q = model.posterior_given_weights(direction, weight)
    proposal = Normal(q.mean[0], 1.3 * q.stddev[0]).to_event(1)
    draws = proposal.sample((100_000,))
    log_weight = model.direction(draws, weight).log_prob(direction)
    log_weight = log_weight + Normal(0.0, 1.0).log_prob(draws).sum(-1) - proposal.log_prob(draws)
    share = log_weight.flatten().double().softmax(0)[:, None]
    mean = (share * draws[:, 0]).sum(0)
    variance = (share * (draws[:, 0] - mean).square()).sum(0)
    error = (variance / (1 / share.square().sum())).sqrt()
    assert ((q.mean.flatten() - mean).abs() < 5 * error + 0.02).all()
    torch.testing.assert_close(q.variance.flatten(), variance.float(), rtol=0.15, atol=0)


def test_views_of_every_weight_are_spread_alike(model):
    torch.manual_seed(4)
    z = torch.randn(20_000, D)
    for weight in (0.05, 1.0, 20.0):
        directions = model.direction(z, torch.full((20_000,), weight)).sample()
        # Uniform on the sphere but for the spread of the vectors' lengths.
        torch.testing.assert_close(
            directions.square().mean(0) * D, torch.ones(D), atol=0.06, rtol=0
        )


def test_more_views_make_the_posterior_narrower_and_the_mixture_has_its_moments(model):
    torch.manual_seed(5)
    views, z = model.simulate(8, 20)
    variances = []
    for k in (1, 2, 4, 8):
        q = model.posterior(views[:k])
        assert (q.batch_shape, q.event_shape) == ((20,), (D,))
        draws = model.draw(views[:k], 100)
        torch.testing.assert_close(draws.mean((0, 1)), q.mean.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(draws.var(0).mean(), q.variance.mean(), rtol=0.05, atol=0)
        variances.append(q.variance.mean().item())
    assert variances == sorted(variances, reverse=True)
    assert (model.posterior(views).mean - z).square().mean() < 0.5


@pytest.mark.parametrize("num_views", [1, 4])
def test_simulation_based_calibration_passes_and_a_scale_that_is_wrong_does_not(model, num_views):
    assert (rank_p_values(simulated_ranks(model, num_views, 400)) > 0.01 / D).all()
    wrong = WrongLoading(model)
    assert (rank_p_values(simulated_ranks(wrong, num_views, 400)) < 0.01 / D).any()


def test_the_fit_finds_what_generated_the_views(model, fitted):
    found, _ = fitted
    expected = model.correlation.sort(descending=True).values
    loading, noise = (2 * found.log_loading).exp(), (2 * found.log_noise).exp()
    signal = loading / (loading + noise)
    assert torch.corrcoef(torch.stack([signal, expected]))[0, 1] > 0.95
    assert 2.0 < found.log_df.exp() < 4.5


def test_the_fit_is_calibrated_for_views_that_it_has_not_seen(model, fitted):
    found, embeddings = fitted
    views = found.coordinates(embeddings)
    for k in (1, 4):
        for predicted in further_view_check(found, views[:k, :300], views[-1, :300], 50):
            covered = ((predicted.pit - 0.5).abs() < 0.4).double().mean().item()
            assert covered == pytest.approx(0.8, abs=0.05)


def test_what_is_shared_is_closer_for_views_of_one_image(fitted):
    found, embeddings = fitted
    one, other = (normalize(found.shared(embeddings[v, :200]), dim=-1) for v in (0, 1))
    similarity = one @ other.T
    assert similarity.diagonal().mean() > similarity.mean() + 0.2
    # More so than in the embeddings, whose features are mixed.
    nearest = (similarity.argmax(1) == torch.arange(200)).float().mean()
    raw = normalize(embeddings[0, :200], dim=-1) @ normalize(embeddings[1, :200], dim=-1).T
    assert nearest > (raw.argmax(1) == torch.arange(200)).float().mean()


def test_a_fit_is_made_again_by_its_seed():
    torch.manual_seed(6)
    embeddings = true_model().simulate(3, 50)[0]
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        one = ManyViews(D, 4, 8).fit(embeddings, num_steps=8, batch_size=8, num_particles=2, seed=5)
        results.append(one.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.slow
def test_nuts_of_the_same_model_agrees_with_the_draws(model):
    torch.manual_seed(7)
    views, _ = model.simulate(1, 1)
    pyro.set_rng_seed(0)
    kernel = NUTS(model.model, jit_compile=False)
    mcmc = MCMC(kernel, num_samples=1000, warmup_steps=300, disable_progbar=True)
    mcmc.run(views)
    expected = mcmc.get_samples()["z"].reshape(-1, D)
    draws = model.draw(views, 2000)[:, 0]
    assert ((draws.mean(0) - expected.mean(0)) / expected.std(0)).abs().max() < 0.3
    torch.testing.assert_close(draws.std(0), expected.std(0), rtol=0.2, atol=0)


@pytest.mark.parametrize("num_latents", [2, 17])
def test_a_number_of_latents_that_does_not_fit_is_refused(num_latents):
    with pytest.raises(ValueError, match="num_latents must be at least 3"):
        ManyViews(16, num_latents)


def test_embeddings_that_vary_in_too_few_directions_are_refused():
    embeddings = torch.randn(2, 30, 4) @ torch.randn(4, 16)
    with pytest.raises(ValueError, match="vary in 4 directions only"):
        ManyViews(16, 8).fit(embeddings)


def test_a_view_that_is_missing_is_named():
    embeddings = torch.randn(2, 30, 16)
    embeddings[0, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="view 0 of image 3"):
        ManyViews(16, 8).fit(embeddings)


def test_longer_views_come_from_a_longer_latent(model):
    views, _ = model.simulate(2, 20)
    short, long = (model.draw(factor * views, 50).norm(dim=-1).mean() for factor in (0.5, 1.5))
    assert long > short + 0.1


def test_posterior_and_draws_are_made_again_by_their_seed(model):
    views, _ = model.simulate(3, 10)
    one, again, other = (model.posterior(views, 8, seed=seed).mean for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(model.draw(views, 5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
