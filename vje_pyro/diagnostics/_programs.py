"""Running a method's Pyro programs on many latent particles at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

_CHUNK_BYTES = 64 * 2**20


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of a seed inside the block; outside, the global state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def chunks(num_samples: int, size: int, element_bytes: int = 4) -> Iterator[int]:
    """Numbers of particles, together ``num_samples``, so that a chunk is at most 64 MiB.

    Args:
        num_samples: Particles in all.
        size: Elements of one particle.
        element_bytes: Bytes of one element.

    Example:
        >>> list(chunks(5, size=2 * 2**22))
        [2, 2, 1]
    """
    step = max(1, _CHUNK_BYTES // (size * element_bytes))
    for start in range(0, num_samples, step):
        yield min(step, num_samples - start)


def draw_latents(
    guide: Callable, arguments: tuple[Any, ...], num_samples: int
) -> dict[str, Tensor]:
    """Draws of every latent site of a guide, ``(S, N, *event)`` by name."""
    with pyro.plate("particles", num_samples, dim=-2):
        trace = poutine.trace(guide).get_trace(*arguments)
    return {name: site["value"] for name, site in _random_sites(trace)}


def site_log_probs(
    program: Callable, arguments: tuple[Any, ...], latents: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Log density of every random site of a program, in nats.

    Args:
        program: A Pyro program over a plate of N data, such as ``method.model``.
        arguments: Its arguments.
        latents: Value of each latent site, ``(..., N, *event)``; further dimensions are particles.

    Returns:
        Tensors ``(..., N)`` by name of the site.
    """
    trace = poutine.trace(poutine.condition(program, data=latents)).get_trace(*arguments)
    return {name: site["fn"].log_prob(site["value"]) for name, site in _random_sites(trace)}


def log_density(
    program: Callable, arguments: tuple[Any, ...], latents: dict[str, Tensor]
) -> Tensor:
    """Sum of :func:`site_log_probs`, ``(..., N)``: of a model its log joint density."""
    return torch.stack(list(site_log_probs(program, arguments, latents).values())).sum(0)


def _random_sites(trace: poutine.Trace) -> Iterator[tuple[str, Any]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample":
            yield name, site
