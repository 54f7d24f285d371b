"""Batch norm over processes: in one process here; over several in processes.py and the models."""

import copy

import pytest
import torch
from torch import nn

from vje_pyro.training import sync_batch_norm
from vje_pyro.training.sync_batch_norm import synchronize_batch_norm


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(36, affine=False)
    )


def test_the_state_dict_stays_the_same_and_loads_both_ways():
    plain, shared = network(), network()
    weights = dict(shared.named_parameters())
    synchronize_batch_norm(shared)
    synchronize_batch_norm(shared)  # once more does nothing
    assert list(plain.state_dict()) == list(shared.state_dict())
    assert all(weights[name] is value for name, value in shared.named_parameters())
    plain(torch.randn(8, 3, 5, 5))
    shared.load_state_dict(plain.state_dict())
    network().load_state_dict(shared.state_dict())
    assert torch.equal(shared[1].running_mean, plain[1].running_mean)


def test_one_process_computes_what_it_did():
    plain = network()
    shared = copy.deepcopy(plain)
    synchronize_batch_norm(shared)
    images = torch.randn(8, 3, 5, 5)
    assert torch.equal(plain(images), shared(images))
    assert torch.equal(plain.eval()(images), shared.eval()(images))
    again = copy.deepcopy(shared)
    assert torch.equal(again(images), shared(images))


@pytest.fixture
def twins(monkeypatch):
    """As if another process had the same batch, and the same gradients."""
    dist = sync_batch_norm.dist
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda sums: sums.mul_(2))
    monkeypatch.setattr(dist, "all_gather", lambda rows, mine: [row.copy_(mine) for row in rows])


@pytest.mark.usefixtures("twins")
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (4, 3, 5, 6)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_formula_is_torchs_of_the_whole_batch(shape, affine):
    torch.manual_seed(0)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    whole, shared = kind(3, affine=affine), kind(3, affine=affine)
    for norm in (whole, shared):
        for number, weight in enumerate(norm.parameters()):
            nn.init.normal_(weight, generator=torch.Generator().manual_seed(number))
    synchronize_batch_norm(shared)
    x, direction = torch.randn(shape) * 3 + 2, torch.randn(shape)
    both, mine = torch.cat([x, x]).requires_grad_(), x.clone().requires_grad_()
    expected, found = whole(both), shared(mine)
    (expected * torch.cat([direction, direction])).sum().backward()
    (found * direction).sum().backward()
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found, expected[: len(x)], **close)
    torch.testing.assert_close(mine.grad, both.grad[: len(x)], **close)
    torch.testing.assert_close(dict(shared.named_buffers()), dict(whole.named_buffers()), **close)
    for ours, theirs in zip(shared.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(2 * ours.grad, theirs.grad, **close)


@pytest.mark.usefixtures("twins")
def test_bfloat16_keeps_its_dtype_and_float32_statistics():
    norm = nn.BatchNorm1d(3)
    synchronize_batch_norm(norm)
    x = (torch.randn(64, 3) + 10).bfloat16().requires_grad_()
    output = norm(x)
    output.float().square().sum().backward()
    assert output.dtype == x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * x.detach().float().mean(0))


@pytest.mark.usefixtures("twins")
def test_an_activation_inside_a_batch_norm_is_kept():
    timm = pytest.importorskip("timm")
    norm = timm.layers.BatchNormAct2d(4)
    plain = copy.deepcopy(norm)
    synchronize_batch_norm(norm)
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(norm(x), plain(x))
    assert (norm(x) >= 0).all()
    assert norm.num_batches_tracked == 2


@pytest.mark.usefixtures("twins")
def test_evaluation_takes_the_running_statistics():
    norm = nn.BatchNorm1d(3)
    synchronize_batch_norm(norm)
    x = torch.randn(5, 3)
    torch.testing.assert_close(norm.eval()(x), x / (1 + norm.eps) ** 0.5)


@pytest.mark.usefixtures("twins")
def test_on_cuda_the_statistics_are_torchs(monkeypatch):
    calls = []
    fused = type("Fused", (), {"apply": lambda *arguments: calls.append(arguments)})
    monkeypatch.setattr(sync_batch_norm, "FusedSyncBatchNorm", fused)
    norm = nn.BatchNorm1d(3)
    input = type("OnCuda", (), {"is_cuda": True})()
    sync_batch_norm._normalize(
        input, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, 0.2, 1e-3
    )
    buffers = norm.running_mean, norm.running_var
    assert calls == [(input, norm.weight, norm.bias, *buffers, 1e-3, 0.2, None, 2)]
