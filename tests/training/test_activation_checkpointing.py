"""Activation checkpointing: the same numbers from less memory."""

import copy

import pytest
import torch
from torch import nn

from vje_pyro.encoders import ResNet, SmallResNet, TimmEncoder
from vje_pyro.training.activation_checkpointing import checkpoint_activations


def timm_encoder(name):
    def make():
        pytest.importorskip("timm")
        return TimmEncoder(name, drop_path_rate=0.5)

    return make


def plain_encoder():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())


ENCODERS = {
    "small": lambda: SmallResNet(widths=(8, 16, 32), stem_width=8),
    "resnet18": lambda: ResNet("resnet18", image_size=32),
    "timm": timm_encoder("resnetv2_18"),
    "no-blocks": plain_encoder,
}


def kept_bytes(module, images):
    """Output, and bytes of what autograd keeps for the backward pass, each storage once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(images)
    there = {t.untyped_storage().data_ptr() for t in (images, *module.parameters())}
    return output, sum(size for pointer, size in kept.items() if pointer not in there)


def two_views(module, views, precision):
    """Loss, gradients and bytes kept of two calls and a backward pass, as a method makes them."""
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        (a, kept), (b, more) = (kept_bytes(module, view) for view in views)
    loss = (a.float() * b.float().roll(1, 0)).mean() + a.float().square().mean()
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters()}, kept + more


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ENCODERS)
def test_loss_gradients_and_statistics_are_the_same(name, precision):
    torch.manual_seed(0)
    plain = ENCODERS[name]()
    sparing = copy.deepcopy(plain)
    checkpoint_activations(sparing)
    side = 32 if name == "timm" else 16
    views = torch.randn(2, 4, 3, side, side)
    loss, gradients, kept = two_views(plain, views, precision)
    same_loss, same_gradients, fewer = two_views(sparing, views, precision)
    assert torch.equal(loss, same_loss)
    assert gradients.keys() == same_gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[key], gradient, rtol=1e-6, atol=1e-8)
    state = sparing.state_dict()
    assert list(state) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    assert fewer < 0.7 * kept


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own compiler
def test_compiled_it_is_the_same():
    torch.manual_seed(0)
    plain = SmallResNet(widths=(8, 16), stem_width=8)
    sparing = copy.deepcopy(plain)
    checkpoint_activations(sparing)
    sparing.compile(backend="aot_eager", dynamic=False)
    views = torch.randn(2, 4, 3, 16, 16)
    loss, gradients, _ = two_views(plain, views, "float32")
    torch.manual_seed(1)
    a, b = (sparing(view) for view in views)
    same = (a * b.roll(1, 0)).mean() + a.square().mean()
    same.backward()
    torch.testing.assert_close(same, loss)
    for name, parameter in sparing.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(dict(sparing.named_buffers()), dict(plain.named_buffers()))


def test_without_gradient_nothing_is_recomputed():
    encoder = SmallResNet(widths=(8, 16), stem_width=8)
    checkpoint_activations(encoder)
    calls = []
    encoder.stages[0].residual.register_forward_hook(lambda *_: calls.append(1))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        encoder(images)
    assert len(calls) == 1
    encoder(images).sum().backward()
    assert len(calls) == 3
