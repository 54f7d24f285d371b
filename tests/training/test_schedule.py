"""The schedule of the learning rate."""

import math

import pytest
import torch
from torch import nn

from vje_pyro.training.schedule import WarmupCosine, set_rate


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
