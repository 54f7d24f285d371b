"""LARS against hand computation, and parameter groups."""

import numpy as np
import pytest
import torch
from torch import nn

from vje_pyro.training.optim import LARS, param_groups


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


@pytest.mark.parametrize(
    ("weight", "lr", "clip", "step"),
    [
        ([3.0, 4.0], 1.0, False, 0.25 * 2),  # trust = 0.1 * 5 / 2 = 0.25
        ([3.0, 4.0], 1.0, True, 0.25 * 2),
        ([3.0, 4.0], 0.1, True, 0.1 * 2),  # the rate is smaller
        ([0.0, 0.0], 0.5, True, 0.5 * 2),  # nothing to adapt to
        ([0.0, 0.0], 2.0, True, 2.0 * 2),
    ],
)
def test_first_steps_of_lars(weight, lr, clip, step):
    w = nn.Parameter(torch.tensor(weight))
    w.grad = torch.tensor([0.0, 2.0])
    LARS([w], lr=lr, momentum=0.0, trust_coefficient=0.1, clip=clip).step()
    np.testing.assert_allclose(w.detach().numpy(), [weight[0], weight[1] - step], rtol=1e-6)


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
