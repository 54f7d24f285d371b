import math

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import MCMC, NUTS, Trace_ELBO
from torch.nn.functional import normalize

from vje_pyro.diagnostics.many_views import (
    further_view_check,
    importance_of_views,
    rank_p_values,
    simulated_ranks,
)
from vje_pyro.errors import NonFiniteError
from vje_pyro.inference import ImportanceWeightedELBO
from vje_pyro.models import ManyViews

D = 16


def true_model(df=3.0):
    """Of known parameters, with features of unequal correlation."""
    torch.manual_seed(0)
    model = ManyViews(D, D).eval().requires_grad_(False)
    rho = torch.linspace(0.8, 0.3, D)
    model.correlation.copy_(rho)
    model.log_loading.copy_(rho.log() / 2)
    model.log_noise.copy_((1 - rho).log() / 2)
    model.log_df.fill_(math.log(df))
    return model


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
        embeddings, num_steps=160, batch_size=64, num_particles=8
    ), embeddings


def test_the_guide_fits_the_model_for_any_bound_of_pyro(model):
    views, _ = model.simulate(3, 4)
    assert math.isfinite(Trace_ELBO(max_plate_nesting=2).loss(model.model, model.guide, views))
    assert math.isfinite(ImportanceWeightedELBO(3).loss(model.model, model.guide, views))


def test_of_one_view_the_guide_is_all_but_the_posterior(model):
    torch.manual_seed(2)
    views, _ = model.simulate(1, 60)
    importance = importance_of_views(model, views, 1000)
    assert importance.pareto_k.median() < 0.4
    assert (importance.bounds[1000] - importance.bounds[1]).mean() < 0.3


def test_given_its_weight_a_view_has_the_posterior_that_importance_sampling_finds(model):
    torch.manual_seed(3)
    z, weight = torch.randn(1, D), torch.full((1, 1), 1.5)
    direction = model.direction(z, weight).sample()
    q = model.posterior_given_weights(direction, weight)
    proposal = Normal(q.mean[0], 1.3 * q.stddev[0]).to_event(1)
    draws = proposal.sample((200_000,))
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
    views, z = model.simulate(8, 300)
    variances = []
    for k in (1, 2, 4, 8):
        q = model.posterior(views[:k])
        assert (q.batch_shape, q.event_shape) == ((300,), (D,))
        draws = model.draw(views[:k], 400)
        torch.testing.assert_close(draws.mean((0, 1)), q.mean.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(draws.var(0).mean(), q.variance.mean(), rtol=0.05, atol=0)
        variances.append(q.variance.mean().item())
    assert variances == sorted(variances, reverse=True)
    assert (model.posterior(views).mean - z).square().mean() < 0.5


def test_one_view_passes_simulation_based_calibration_and_a_scale_that_is_wrong_does_not(model):
    assert (rank_p_values(simulated_ranks(model, 1, 1500)) > 0.01 / D).all()
    posterior_given_weights = model.posterior_given_weights

    def narrow(directions, weight):
        q = posterior_given_weights(directions, weight)
        return Normal(q.mean, q.stddev / 1.5).to_event(1)

    model.posterior_given_weights = narrow
    try:
        assert (rank_p_values(simulated_ranks(model, 1, 1500)) < 0.01 / D).any()
    finally:
        del model.posterior_given_weights


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
        for predicted in further_view_check(found, views[:k], views[-1]):
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
        one = ManyViews(D, 4, 8).fit(embeddings, num_steps=3, batch_size=8, num_particles=2, seed=5)
        results.append(one.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.slow
def test_nuts_of_the_same_model_agrees_with_the_guide(model):
    torch.manual_seed(7)
    views, _ = model.simulate(1, 1)
    pyro.set_rng_seed(0)
    kernel = NUTS(model.model, jit_compile=False)
    mcmc = MCMC(kernel, num_samples=1000, warmup_steps=300, disable_progbar=True)
    mcmc.run(views)
    draws = mcmc.get_samples()["z"].reshape(-1, D)
    q = model.posterior(views)
    assert ((draws.mean(0) - q.mean[0]) / q.stddev[0]).abs().max() < 0.3
    torch.testing.assert_close(draws.std(0), q.stddev[0], rtol=0.2, atol=0)


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


def test_directions_alone_say_all_of_a_view_but_its_radius(model):
    views, _ = model.simulate(2, 5)
    q, scaled = model.posterior(views), model.posterior(3 * views)
    torch.testing.assert_close(q.mean, scaled.mean)
    torch.testing.assert_close(normalize(views, dim=-1).norm(dim=-1), torch.ones(2, 5))
