"""The one loop that embeds: batches, views, modes and random state."""

import pytest
import torch
from torch import nn

from vje_pyro.embedding import embed_views, map_batches, map_views


@pytest.fixture
def method():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))


def test_batches_are_put_together_by_name(method):
    images = torch.randn(7, 3)
    found = map_batches(
        method, lambda x: {"y": method(x), "mean": x.mean(1).numpy()}, images.split(3)
    )
    assert set(found) == {"y", "mean"}
    torch.testing.assert_close(found["mean"], images.mean(1))
    assert method.training
    assert (method[1].running_mean == 0).all()  # inside, nothing trains
    torch.testing.assert_close(found["y"], method.eval()(images).detach())
    assert not found["y"].requires_grad
    assert map_batches(method, lambda x: {"y": x}, []) == {}


def test_views_follow_from_the_seed_and_leave_the_global_state_alone(method):
    images = torch.randn(5, 3)

    def make_views(batch):
        return torch.stack([batch, batch + torch.randn_like(batch)])

    def embed(seed):
        return embed_views(method, method, images.split(2), make_views, 3, seed)

    torch.manual_seed(0)
    expected, _ = torch.rand(1), torch.manual_seed(0)
    first = embed(1)
    assert torch.rand(1) == expected
    assert first.shape == (3, 5, 2)
    torch.testing.assert_close(first[0], method.eval()(images).detach())  # the first is the image
    assert torch.equal(first, embed(1))
    assert not torch.equal(first[1], embed(2)[1])
    means = map_views(method, lambda v: {"m": v.mean((0, 2))}, images.split(2), make_views, 1)
    torch.testing.assert_close(means["m"], images.mean(1))
    with pytest.raises(ValueError, match="num_views must be at least 1, got 0"):
        map_views(method, lambda v: {}, images.split(2), make_views, 0)
