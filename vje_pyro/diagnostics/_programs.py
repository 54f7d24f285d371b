"""Log densities of the sites of a method's Pyro programs."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

_CHUNK_BYTES = 64 * 2**20


def site_log_probs(
    program: Callable, arguments: tuple[Any, ...], values: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Log density of every random site, in nats, where ``values`` are the latent ones.

    Args:
        program: A Pyro program over a plate of N data, such as ``method.model``.
        arguments: Its arguments.
        values: Value of each latent site, ``(..., N, *event)``; more dimensions are particles.

    Returns:
        Tensors ``(..., N)`` by name of the site.
    """
    trace = poutine.trace(poutine.condition(program, data=values)).get_trace(*arguments)
    return {
        name: site["fn"].log_prob(site["value"])
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
    }


def log_joint(program: Callable, arguments: tuple[Any, ...], z: Tensor) -> Tensor:
    """Log density of everything at latent ``z`` ``(..., N, D)``: ``(..., N)``, in nats."""
    # zip of the shapes: a site outside the particles, such as a fixed one, broadcasts.
    terms = site_log_probs(program, arguments, {"z": z}).values()
    return torch.stack(torch.broadcast_tensors(*terms)).sum(0)


def chunks(num_samples: int, size: int, element_bytes: int = 4) -> Iterator[int]:
    """Numbers of particles, together ``num_samples``, of ``size`` elements each: 64 MiB a chunk."""
    step = max(1, _CHUNK_BYTES // (size * element_bytes))
    for start in range(0, num_samples, step):
        yield min(step, num_samples - start)
