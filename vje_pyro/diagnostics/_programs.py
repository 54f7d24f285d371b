"""Running a method's Pyro programs on many latent particles at once."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from vje_pyro.errors import VJEError

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


def hold_globals(method: Any, arguments: tuple[Any, ...]) -> Any:
    """A copy of a method whose global latents are held at the means that its guide gives them.

    What is diagnosed is the posterior of each datum, given these. A method without global latents
    is given back as it is.

    Raises:
        VJEError: If the model has a global latent that the guide does not sample.
    """
    sampled, needed = _globals(method.guide, arguments), _globals(method.model, arguments)
    if missing := sorted(set(needed) - set(sampled)):
        raise VJEError(
            f"the model has the global latents {missing}, which the guide does not sample: give "
            f"the guide a site of the same name."
        )
    if not sampled:
        return method
    held = copy.copy(method)
    means = {name: site["fn"].mean.detach() for name, site in sampled.items()}
    # Partials of its own methods, so that a deep copy has them of itself.
    model, guide = held.model, held.guide
    held.__dict__["model"] = partial(_conditioned, model, means)
    held.__dict__["guide"] = partial(_hidden, guide, tuple(means))
    return held


def _globals(program: Callable, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Latent sites outside of every plate."""
    with torch.no_grad(), torch.random.fork_rng():
        nodes = poutine.trace(program).get_trace(*arguments).nodes
    sites = {name: site for name, site in nodes.items() if site["type"] == "sample"}
    return {n: s for n, s in sites.items() if not _is_local(s) and _is_latent(s)}


def _is_latent(site: Any) -> bool:
    return not site["is_observed"] and type(site["fn"]).__name__ != "_Subsample"


def _conditioned(program: Callable, values: dict[str, Tensor], *arguments: Any) -> Any:
    return poutine.condition(program, data=values)(*arguments)


def _hidden(program: Callable, names: tuple[str, ...], *arguments: Any) -> Any:
    return poutine.block(program, hide=list(names))(*arguments)


def _is_local(site: Any) -> bool:
    return any(frame.name != "particles" for frame in site["cond_indep_stack"])


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
    # A global latent is held at one value: its density is a constant, and of no datum.
    for name, site in trace.nodes.items():
        random = site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
        if random and _is_local(site):
            yield name, site
