"""What every distribution costs, as ratios to the diagonal Normal of the same shape.

    python benchmarks/distributions.py [--batch 512] [--dim 512] [--turns 30] [--out FILE]

Times, for a batch of directions (and of as many radii), the making of the law with its log density,
the same with the gradient by every parameter and by the value, and a draw (a pathwise one where
there is one). All take turns in one process on one thread. A ratio is that of two neighbours in
time: its median and quartiles are the result. Laws that are normalised by quadrature are scored on
a part of the batch, and the time scaled to the whole: they take seconds and gigabytes.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro import distributions as vje
from vje_pyro.atomic import write_atomic
from vje_pyro.provenance import git_commit, versions

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "distributions.json"
REFERENCE = "diagonal_normal"


def diagonal_normal(loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
    return dist.Normal(loc, scale).to_event(1)


DIRECTIONS: dict[str, Callable[..., Any]] = {
    REFERENCE: diagonal_normal,
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


# Rows that are scored of laws whose normaliser is a quadrature for every datum.
ROWS = {"spherical_student_t_normalized": 32}


@dataclass(frozen=True)
class Case:
    """A law, its parameters, values to score, and how many of the rows are scored."""

    make: Callable[..., Any]
    loc: Tensor
    scale: Tensor
    value: Tensor
    rows: int

    @torch.no_grad()
    def log_prob(self) -> None:
        """Log density, without a graph."""
        self._log_prob()

    def log_prob_and_gradient(self) -> None:
        """Log density and its gradient by the parameters and the value."""
        torch.autograd.grad(self._log_prob().sum(), (self.loc, self.scale, self.value))

    def _log_prob(self) -> Tensor:
        loc, scale, value = (x[: self.rows] for x in (self.loc, self.scale, self.value))
        return self.make(loc=loc, scale=scale).log_prob(value)

    @torch.no_grad()
    def sample(self) -> None:
        """A draw for every row."""
        law = self.make(loc=self.loc, scale=self.scale)
        (law.rsample if law.has_rsample else law.sample)()

    def share(self, work: str) -> float:
        """The part of the batch that the work is done on."""
        return 1.0 if work == "sample" else self.rows / len(self.loc)


def cases(batch: int, dim: int, device: torch.device) -> Iterator[tuple[str, Case]]:
    """Locations, values near them and scales of about half a radian in all, as in training."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, generator=generator)

    scale = 0.5 / math.sqrt(dim) * torch.exp(0.3 * random(batch, dim))
    loc = normalize(random(batch, dim), dim=-1)
    value = normalize(loc + scale * random(batch, dim), dim=-1)
    for name, make in DIRECTIONS.items():
        parameters = (x.clone().requires_grad_() for x in (loc, scale, value))
        yield name, Case(make, *parameters, rows=min(ROWS.get(name, batch), batch))
    loc = math.sqrt(dim) * torch.exp(0.05 * random(batch))
    value = loc + random(batch)
    for name, make in RADII.items():
        parameters = (x.clone().requires_grad_() for x in (loc, torch.ones_like(loc), value))
        yield name, Case(make, *parameters, rows=batch)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(batch: int, dim: int, turns: int, device: torch.device) -> dict[str, Any]:
    """Ratios of every law and kind of work, and the reference's own milliseconds."""
    table = dict(cases(batch, dim, device))
    works = ("log_prob", "log_prob_and_gradient", "sample")
    ratios: dict[str, dict[str, list[float]]] = {n: {w: [] for w in works} for n in table}
    own: dict[str, list[float]] = {w: [] for w in works}
    for turn in range(turns + 1):
        for name, case in table.items():
            for work in works:
                reference = seconds(getattr(table[REFERENCE], work), device)
                ratio = seconds(getattr(case, work), device) / case.share(work) / reference
                if turn:  # the first one warms up
                    ratios[name][work].append(ratio)
                    own[work].append(1000 * reference)
    return {
        "ratio_to_diagonal_normal": {
            name: {work: quartiles(values) for work, values in rows.items()}
            for name, rows in ratios.items()
        },
        "diagonal_normal_ms": {work: quartiles(values) for work, values in own.items()},
    }


def quartiles(values: list[float]) -> dict[str, Any]:
    lower, middle, upper = (round(x, 3) for x in statistics.quantiles(values, n=4))
    return {"median": middle, "quartiles": [lower, upper]}


def main() -> None:
    """Parse the command line, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with pyro.validation_enabled(False):
        figures = measure(options.batch, options.dim, options.turns, torch.device(options.device))
    record = {
        "benchmark": "distributions",
        "what": f"{options.batch} directions in {options.dim} dimensions, and as many radii",
        **figures,
        "rows_scored_of_quadratures": ROWS,
        "settings": {name: x for name, x in vars(options).items() if name != "out"},
        "commit": git_commit(),
        "versions": versions(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, json.dumps(record, indent=2) + "\n")
    for name, rows in figures["ratio_to_diagonal_normal"].items():
        print(f"{name:32s}", *(f"{work} {x['median']:8.2f}  " for work, x in rows.items()))
    print(options.out)


if __name__ == "__main__":
    main()
