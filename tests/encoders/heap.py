"""Trains small residual networks and checks every gradient; run under a debugging allocator.

``python heap.py WIDTHS BATCHES SIZES``, each a list with commas. A damaged heap ends the process.
"""

import sys
from itertools import product

import torch

from vje_pyro.encoders import SmallResNet


def gradients(module, x, precision):
    """Of the weights of ``module``, with ``precision`` float32, bfloat16 (autocast) or float64."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    module.to(dtype).zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        y = module(x.to(dtype))
    (
        y.double() * torch.linspace(0.5, 1, y.numel(), dtype=torch.float64).view_as(y)
    ).sum().backward()
    return torch.cat([p.grad.double().flatten() for p in module.parameters()])


def check(width, batch, size):
    torch.manual_seed(0)
    network = SmallResNet(in_channels=width, widths=(width, 8), stem_width=width)
    network.to(memory_format=torch.channels_last)
    x = torch.rand(batch, width, size, size).to(memory_format=torch.channels_last)
    shortcut = network.stages[0].shortcut[0]  # alone: batch norm amplifies rounding to bfloat16
    for module, precision, tolerance in (
        (network, "float32", 1e-3),
        (network, "bfloat16", torch.inf),
        (shortcut, "float32", 1e-5),
        (shortcut, "bfloat16", 0.02),
    ):
        right = gradients(module, x, "float64")
        error = ((gradients(module, x, precision) - right).norm() / right.norm()).item()
        assert error < tolerance, (precision, width, batch, size, error)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for case in product(*([int(n) for n in word.split(",")] for word in sys.argv[1:])):
        check(*case)
    print("right")
