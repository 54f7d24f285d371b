"""Parameters that Pyro programs make: trained, in every checkpoint, restored bit for bit."""

import pyro
import pytest
import torch
from pyro.distributions import constraints
from safetensors.torch import load_file

from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.inference import LocalParams
from vje_pyro.method import Loss
from vje_pyro.training.checkpoint import load_weights


def make_method(toy, first_loss=True):
    """The toy method, with a weight of its terms that a program makes."""

    class Weighted(toy.ToyMethod):
        def __init__(self):
            super().__init__()
            self.params = LocalParams()

        def loss(self, views):
            loss = super().loss(views)
            with self.params.held():
                weight = pyro.param("weight", lambda: torch.rand(3) + 0.5, constraints.positive)
            total = loss.total * weight.mean() - weight.log().mean()
            return Loss(total, loss.parts, loss.monitors)

    torch.manual_seed(0)
    method = Weighted()
    if first_loss:
        with torch.no_grad():
            method.loss(torch.zeros(2, 4, 1, 6, 6))
    return method


def test_they_are_trained_saved_and_resumed_bit_for_bit(tmp_path, toy):
    method = make_method(toy)
    (before,) = (p.detach().clone() for p in method.params.parameters())
    settings = {"checkpoint_every_steps": 1, "checkpoint_every_epochs": 1}
    whole, _ = toy.train(tmp_path / "whole", method, **settings)
    (after,) = whole.params.parameters()
    assert (after != before).all()
    for name in ("last", "best", "epoch_0003"):
        tensors = load_file(tmp_path / f"whole/checkpoints/{name}.safetensors")
        assert (tensors["model.params.weight"] != before).all()
        assert "optimizer.params.weight.exp_avg" in tensors
    with pytest.raises(RuntimeError, match="stopped by the test"):
        toy.train(tmp_path / "cut", make_method(toy), make_views=toy.fail_at(6), **settings)
    torch.manual_seed(9)
    resumed, _ = toy.train(tmp_path / "cut", make_method(toy), resume=True, **settings)
    assert toy.same_state(whole.state_dict(), resumed.state_dict())
    # A method that has made none yet has them after loading.
    fresh = make_method(toy, first_loss=False)
    load_weights(tmp_path / "whole", fresh)
    assert toy.same_state(whole.state_dict(), fresh.state_dict())


def test_an_optimiser_that_does_not_know_them_is_an_error(tmp_path, toy):
    with pytest.raises(VJEError, match=r"created the parameters \['params.weight'\].*one loss"):
        toy.train(tmp_path, make_method(toy, first_loss=False))


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path, toy):
    toy.train(tmp_path, make_method(toy), epochs=1)
    fresh = make_method(toy, first_loss=False)
    fresh.head = torch.nn.Linear(6, 5)
    with pytest.raises(CheckpointError, match=r"head.weight: shape"):
        load_weights(tmp_path, fresh)
    assert not list(fresh.params.parameters())
