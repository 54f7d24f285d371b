"""LARS against hand computation, parameter groups, the schedule."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vje_pyro.training.optim import LARS, WarmupCosine, param_groups, set_rate


def lars_by_hand(w, gradients, lr, momentum, decay, trust, adapt=True):
    w, v = np.array(w, dtype=float), np.zeros(len(w))
    for g in np.array(gradients, dtype=float):
        norm_w, norm_g = np.linalg.norm(w), np.linalg.norm(g)
        usable = adapt and norm_w > 0 and norm_g > 0
        ratio = trust * norm_w / (norm_g + decay * norm_w) if usable else 1.0
        v = momentum * v + lr * ratio * (g + decay * w)
        w = w - v
    return w


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_by_hand(adapt, decay):
    weights = [[3.0, 4.0], [0.0, 0.0], [1.0, -2.0]]
    gradients = [[[0.6, 0.8], [1.0, 0.0]], [[1.0, 1.0], [2.0, 1.0]], [[0.0, 0.0], [0.5, -0.5]]]
    parameters = [nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in weights]
    group = {"params": parameters, "adapt": adapt}
    lars = LARS([group], lr=0.5, momentum=0.9, weight_decay=decay, trust_coefficient=0.02)
    for step in range(2):
        for parameter, g in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(g[step], dtype=torch.float64)
        lars.step()
    for parameter, w, g in zip(parameters, weights, gradients, strict=True):
        expected = lars_by_hand(w, g, 0.5, 0.9, decay, 0.02, adapt)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)


def test_lars_first_step_as_a_number():
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    w.grad = torch.tensor([0.0, 2.0])
    LARS([w], lr=1.0, momentum=0.0, trust_coefficient=0.1).step()
    # trust = 0.1 * 5 / 2 = 0.25, so w moves by 0.25 * (0, 2)
    torch.testing.assert_close(w.detach(), torch.tensor([3.0, 3.5]))


@pytest.mark.parametrize(("lr", "rate"), [(1.0, 0.25), (0.1, 0.1)])
def test_lars_with_clip_takes_the_smaller_of_trust_and_rate(lr, rate):
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    w.grad = torch.tensor([0.0, 2.0])
    LARS([w], lr=lr, momentum=0.0, trust_coefficient=0.1, clip=True).step()
    # trust = 0.1 * 5 / 2 = 0.25
    np.testing.assert_allclose(w.detach().numpy(), [3.0, 4.0 - rate * 2], rtol=1e-6)


@pytest.mark.parametrize("lr", [0.5, 2.0])
def test_lars_with_clip_leaves_what_it_cannot_adapt_at_the_rate(lr):
    w = nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([0.0, 2.0])
    LARS([w], lr=lr, momentum=0.0, trust_coefficient=0.1, clip=True).step()
    np.testing.assert_allclose(w.detach().numpy(), [0.0, -lr * 2], rtol=1e-6)


def test_lars_skips_parameters_without_gradient_and_calls_the_closure():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    lars = LARS([a, b], lr=0.1)

    def closure():
        loss = (a**2).sum()
        loss.backward()
        return loss

    assert lars.step(closure) == 2
    assert not torch.equal(a, torch.ones(2))
    assert torch.equal(b, torch.ones(2))


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "trust_coefficient"])
def test_lars_refuses_negative(name):
    with pytest.raises(ValueError, match=f"{name} >= 0, got -1"):
        LARS([nn.Parameter(torch.ones(2))], **{"lr": 0.1, name: -1.0})


def test_param_groups():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2, bias=False))
    module[2].weight.requires_grad_(False)
    weights, vectors = param_groups(module)
    assert [p.shape for p in weights["params"]] == [(2, 1, 3, 3)]
    assert "weight_decay" not in weights
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]
    assert vectors["weight_decay"] == 0
    assert vectors["adapt"] is False


def test_param_groups_leaves_out_empty_groups_and_refuses_nothing():
    assert len(param_groups(nn.Linear(2, 2, bias=False))) == 1
    with pytest.raises(ValueError, match="ReLU has no parameter"):
        param_groups(nn.ReLU())


def test_schedule_values():
    schedule = WarmupCosine(warmup=0.1, final=0.2)
    factors = [schedule(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.2 + 0.8 * 0.5)
    assert factors[99] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert WarmupCosine(warmup=0.0)(0, 1) == 1.0
    assert schedule(1000, 100) == pytest.approx(0.2)


@pytest.mark.parametrize("arguments", [{"warmup": 1.0}, {"warmup": -0.1}, {"final": 1.5}])
def test_schedule_refuses(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*got"):
        WarmupCosine(**arguments)


def test_set_rate_is_relative_to_the_built_rate():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 1.0}], lr=2.0)
    assert set_rate(sgd, 0.5) == 1.0
    assert set_rate(sgd, 0.25) == 0.5
    assert [group["lr"] for group in sgd.param_groups] == [0.5, 0.25]
