"""Running a method's Pyro programs on many latent particles at once."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.condition_messenger import ConditionMessenger
from torch import Tensor

from vje_pyro.errors import VJEError
from vje_pyro.inference.symmetric_elbo import PLATE

_CHUNK_BYTES = 64 * 2**20
_NESTING = 2
"""Plates of a program: the data, and inside it the views of an image."""


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
    """Latent sites outside of the plate of data."""
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
    return any(frame.name == PLATE for frame in site["cond_indep_stack"])


def draw_latents(
    guide: Callable, arguments: tuple[Any, ...], num_samples: int
) -> dict[str, Tensor]:
    """Draws of every latent site of a guide, ``(S, N, *event)`` by name."""
    with particles(num_samples):
        trace = poutine.trace(guide).get_trace(*arguments)
    return {n: site["value"].squeeze(_view_dim(site["fn"])) for n, site in _random_sites(trace)}


def particles(num_samples: int) -> pyro.plate:
    """A plate of draws, outside of those of the data and of the views."""
    return pyro.plate("particles", num_samples, dim=-1 - _NESTING)


class _Given(ConditionMessenger):
    """Latents of data ``(..., N, *event)`` in a program whose data may have views inside."""

    def _pyro_sample(self, msg: Any) -> None:
        super()._pyro_sample(msg)
        if msg["name"] in self.data:
            msg["value"] = msg["value"].unsqueeze(_view_dim(msg["fn"]))


def given(program: Callable, latents: dict[str, Tensor]) -> Callable:
    """The program with the latents of its data fixed, ``(..., N, *event)`` each."""
    return _Given(latents)(program)


def _view_dim(law: Any) -> int:
    return -_NESTING - law.event_dim


def site_log_probs(
    program: Callable, arguments: tuple[Any, ...], latents: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Log density of every random site of a program, in nats.

    Args:
        program: A Pyro program over a plate of N data, such as ``method.model``.
        arguments: Its arguments; tensors ``(V, N, D)`` are of V views of each datum.
        latents: Value of each latent site, ``(..., N, *event)``; further dimensions are particles.

    Returns:
        Tensors ``(..., V, N)`` by name of the site, V the views of each datum that the site is in,
        1 where it is in no plate of views.
    """
    several = any(isinstance(x, Tensor) and x.dim() == 3 for x in arguments)
    conditioned = (given if several else poutine.condition)(program, latents)
    trace = poutine.trace(conditioned).get_trace(*arguments)
    log_probs = {n: site["fn"].log_prob(site["value"]) for n, site in _random_sites(trace)}
    return {n: torch.atleast_2d(x) if several else x[..., None, :] for n, x in log_probs.items()}


def log_density(
    program: Callable, arguments: tuple[Any, ...], latents: dict[str, Tensor]
) -> Tensor:
    """Sum of :func:`site_log_probs`, ``(..., N)``: of a model its log joint density."""
    sites = [site.sum(-2) for site in site_log_probs(program, arguments, latents).values()]
    return torch.stack(torch.broadcast_tensors(*sites)).sum(0)


def _random_sites(trace: poutine.Trace) -> Iterator[tuple[str, Any]]:
    # A global latent is held at one value: its density is a constant, and of no datum.
    for name, site in trace.nodes.items():
        random = site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
        if random and _is_local(site):
            yield name, site
