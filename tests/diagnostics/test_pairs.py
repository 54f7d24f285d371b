import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vje_pyro.diagnostics import Pairs, require_posterior, view_pairs
from vje_pyro.errors import VJEError


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
        def infer(self):
            pass

    with pytest.raises(VJEError, match=r"SimSiam .* no model, guide, prior_distribution"):
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
