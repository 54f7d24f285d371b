"""Trains small residual networks and checks every gradient; run under a debugging allocator.

``python heap.py WIDTHS BATCHES SIZES``, each a list with commas. A damaged heap ends the process.
"""

import sys
from itertools import product

import torch

from vje_pyro.encoders import SmallResNet


def gradients(network, x, precision):
    """Of the weights, with ``precision`` float32, bfloat16 (autocast) or float64."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    network.to(dtype).zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        y = network(x.to(dtype))
    (y.double() * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
    return torch.cat([p.grad.double().flatten() for p in network.parameters()])


def check(width, batch, size):
    torch.manual_seed(0)
    network = SmallResNet(in_channels=min(width, 3), widths=(width, 8), stem_width=width)
    network.to(memory_format=torch.channels_last)
    x = torch.randn(batch, min(width, 3), size, size).to(memory_format=torch.channels_last)
    right = gradients(network, x, "float64")
    for precision, tolerance in {"float32": 1e-3, "bfloat16": 0.5}.items():
        error = ((gradients(network, x, precision) - right).norm() / right.norm()).item()
        assert error < tolerance, (precision, width, batch, size, error)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for case in product(*([int(n) for n in word.split(",")] for word in sys.argv[1:])):
        check(*case)
    print("right")
