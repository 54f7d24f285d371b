import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vje_pyro.diagnostics import (
    Pairs,
    amortisation_gap,
    compare_with_nuts,
    importance_weights,
    predictive_check,
    require_posterior,
    simulation_based_calibration,
    to_arviz,
    view_pairs,
)
from vje_pyro.diagnostics._programs import log_density
from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.errors import VJEError
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import GlobalLatents


def test_both_orders_are_data(pairs):
    n = len(pairs)
    assert n == 40
    assert pairs.num_features == 8
    for v in (0, 1):
        assert_close(pairs.source[v * n : (v + 1) * n], pairs.embeddings[v])
        assert_close(pairs.target[v * n : (v + 1) * n], pairs.embeddings[1 - v])
    posterior, scale, target = pairs.arguments()
    assert posterior.batch_shape == (2 * n,)
    assert_close(scale[n:], pairs.method.infer(pairs.embeddings[1]).scale)
    assert_close(target, pairs.target)


def test_the_embeddings_are_those_of_the_views(method, images):
    def twice(batch):
        return (batch.float() / 255).expand(2, *batch.shape)

    pairs = view_pairs(method, images, twice, batch_size=16)
    assert_close(pairs.embeddings[0], method.encode(images.float() / 255))
    assert_close(pairs.embeddings[1], pairs.embeddings[0])
    assert pairs.labels.tolist() == [-1] * len(images)


def test_views_depend_on_the_seed_alone_and_the_global_state_is_left(method, images, make_views):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = view_pairs(method, images, make_views, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(first.embeddings, view_pairs(method, images, make_views, seed=1).embeddings)
    other = view_pairs(method, images, make_views, seed=2)
    assert not torch.equal(first.embeddings, other.embeddings)


def test_the_method_is_copied(method, images, make_views):
    pairs = view_pairs(method, images, make_views)
    assert pairs.method is not method
    method.train()
    try:
        assert not view_pairs(method, images, make_views).method.training
        assert method.training
        assert method.norm.training
    finally:
        method.eval()


def test_subset(pairs):
    some = pairs.subset([3, 7])
    assert some.indices.tolist() == [3, 7]
    assert some.labels.tolist() == [0, 1]
    assert_close(some.target, pairs.target[[3, 7, 43, 47]])
    assert_close(some.posterior.mean, pairs.posterior.mean[[3, 7, 43, 47]])
    assert len(pairs.subset(slice(5))) == 5


def test_a_method_without_posterior_is_refused(images, make_views):
    class SimSiam(nn.Module):
        pass

    with pytest.raises(VJEError, match=r"SimSiam cannot be diagnosed: it is no EmbeddingModel"):
        require_posterior(SimSiam())
    with pytest.raises(VJEError, match="SimSiam"):
        view_pairs(SimSiam(), images, make_views)


def test_what_does_not_fit_is_refused(pairs, method, images, make_views):
    def make(**changes):
        arguments = {name: getattr(pairs, name) for name in pairs.__dataclass_fields__}
        return Pairs(**(arguments | changes))

    with pytest.raises(ValueError, match=r"\(2, N, D\) .* got \(3, 4, 8\)"):
        make(embeddings=torch.zeros(3, 4, 8))
    with pytest.raises(ValueError, match=r"labels must have shape \(40,\)"):
        make(labels=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="no images"):
        view_pairs(method, images[:0], make_views)
    with pytest.raises(ValueError, match=r"two views .* 3 were made"):
        view_pairs(method, images, lambda batch: make_views(batch)[[0, 1, 1]])
    method.train()
    try:
        with pytest.raises(ValueError, match=r"call method\.eval"):
            make(method=method)
    finally:
        method.eval()


def test_global_latents_are_held_at_their_posterior_means(untrained_pairs):
    latents = GlobalLatents(direction_df=(1.0, 0.5), radius_scale=(0.0, 0.5))
    with torch.no_grad():
        latents.loc += torch.tensor([0.3, -0.2])
    pairs = untrained_pairs(DiagonalNormal, latents=latents)
    fixed = untrained_pairs(
        DiagonalNormal,
        direction=partial(SphericalStudentT, df=math.exp(1.3)),
        radius=partial(RadialStudentT, scale=math.exp(-0.2), df=1.0),
    )
    z = {"z": torch.randn(5, 2 * len(pairs), pairs.num_features)}
    ours, theirs = (log_density(p.method.model, p.arguments(), z) for p in (pairs, fixed))
    assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    assert importance_weights(pairs, 100).pareto_k.isfinite().all()
    angle, expected = (predictive_check(p).angle.draws.mean() for p in (pairs, fixed))
    assert_close(angle, expected, rtol=0.05, atol=0.0)
    run = compare_with_nuts(pairs, 4, num_data=1, num_chains=2, num_warmup=5, max_tree_depth=3)
    assert run.mean.isfinite().all()
    assert amortisation_gap(pairs, num_steps=2).gap.isfinite().all()
    assert simulation_based_calibration(pairs, "guide", num_simulations=50).num_draws > 0
    assert to_arviz(pairs, num_samples=5) is not None


def test_a_global_latent_without_a_guide_site_is_named(untrained_pairs):
    class Forgetful(GlobalLatents):
        def sample_guide(self):
            return {}

    with pytest.raises(VJEError, match=r"global latents \['log_direction_df'\], which the guide"):
        untrained_pairs(DiagonalNormal, latents=Forgetful(direction_df=(1.0, 0.5)))
