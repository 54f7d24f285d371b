"""What every distribution costs, as ratios to the diagonal Normal of the same shape."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch.nn.functional import normalize

from benchmarks.timing import in_turns, spread
from vje_pyro import distributions as vje
from vje_pyro.evaluation import Figure

BATCH, DIM = 512, 512
DIRECTIONS: dict[str, Callable[..., Any]] = {
    "spherical_student_t": partial(vje.SphericalStudentT, df=1.0),
    "spherical_student_t_normalized": partial(vje.SphericalStudentT, df=1.0, normalized=True),
    "spherical_normal": vje.SphericalNormal,
    "projected_student_t": partial(vje.ProjectedStudentT, df=1.0),
    "projected_normal": vje.ProjectedNormal,
    "von_mises_fisher": vje.VonMisesFisher,
    "power_spherical": vje.PowerSpherical,
}
RADII: dict[str, Callable[..., Any]] = {
    "radial_student_t": partial(vje.RadialStudentT, df=1.0),
    "radial_student_t_normalized": partial(vje.RadialStudentT, df=1.0, normalized=True),
    "radial_log_normal": vje.RadialLogNormal,
    "radial_gamma": vje.RadialGamma,
    "radial_truncated_normal": vje.RadialTruncatedNormal,
}
ROWS = {"spherical_student_t_normalized": 32}
"""Rows that are scored of a law that is normalised by a quadrature for every datum, which takes
seconds and gigabytes; its time is scaled to the whole."""


def works(make: Callable[..., Any], loc: Any, scale: Any, value: Any, rows: int) -> dict[str, Any]:
    """Making the law and its log density, the same with every gradient, and a draw."""
    every = [x.clone().requires_grad_() for x in (loc, scale, value)]

    def log_prob() -> torch.Tensor:
        location, spread_, at = (x[:rows] for x in every)
        found: torch.Tensor = make(loc=location, scale=spread_).log_prob(at)
        return found

    def sample() -> None:
        law = make(loc=every[0], scale=every[1])
        (law.rsample if law.has_rsample else law.sample)()

    return {
        "log_prob": torch.no_grad()(log_prob),
        "log_prob_and_gradient": lambda: torch.autograd.grad(log_prob().sum(), every),
        "sample": torch.no_grad()(sample),
    }


def distributions(options: argparse.Namespace) -> dict[str, Figure]:
    """Ratios of every law and kind of work, for locations, values and scales as in training."""
    scale = 0.5 / math.sqrt(DIM) * torch.exp(0.3 * torch.randn(BATCH, DIM))
    loc = normalize(torch.randn(BATCH, DIM), dim=-1)
    directions = loc, scale, normalize(loc + scale * torch.randn(BATCH, DIM), dim=-1)
    radius = math.sqrt(DIM) * torch.exp(0.05 * torch.randn(BATCH))
    radii = radius, torch.ones(BATCH), radius + torch.randn(BATCH)

    def normal(loc: Any, scale: Any) -> Any:
        return dist.Normal(loc, scale).to_event(1)

    reference = works(normal, *directions, BATCH)
    figures = {}
    for name, make in {**DIRECTIONS, **RADII}.items():
        rows = min(BATCH, ROWS.get(name, BATCH))
        case = works(make, *(directions if name in DIRECTIONS else radii), rows)
        for work, run in case.items():
            times = in_turns({"law": run, "normal": reference[work]}, options.blocks)
            share = 1.0 if work == "sample" else rows / BATCH
            ratios = [a / share / b for a, b in zip(times["law"], times["normal"], strict=True)]
            figures[f"{name}_{work}_to_normal"] = spread(ratios, "pairs of calls")
    return figures
