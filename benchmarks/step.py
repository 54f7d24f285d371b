"""What Pyro costs: a VJE step beside the same step with the loss written by hand.

Both take the same encoder, views, optimiser and batch, in one process, in turns; the ratio of the
medians is the result. Also counts what either moves from the device to the host in a step.

    python benchmarks/step.py [--batch-size 256] [--image-size 32] [--steps 30] [--out FILE]
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyro
import torch
from default_vje import small_vje
from record import write_record
from torch import Tensor
from torch.nn.functional import normalize
from vje_pyro.models import VJE

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "step.json"
HOST_TRANSFERS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")


def loss_by_hand(method: VJE, views: Tensor) -> Tensor:
    """The same objective without Pyro, for ν = 1 and β = 1."""
    embeddings = [method.norm(method.encoder(view).float()) for view in views]
    source, target = torch.cat(embeddings), torch.cat(embeddings[::-1]).detach()
    loc, raw = method.inference.network(source).chunk(2, dim=-1)
    middle, half = method.inference.log_scale_middle, method.inference.log_scale_half_width
    scale = torch.exp(middle + half * torch.tanh((raw - middle) / half))
    z = loc + scale * torch.randn_like(loc)
    dim, tau = loc.shape[-1] - 1, scale / math.sqrt(loc.shape[-1])
    m, u, radius = normalize(z, dim=-1), normalize(target, dim=-1), target.norm(dim=-1)
    c = (u * m).sum(-1)
    q = 2 / (1 + c) * ((u - c[:, None] * m) / tau).square().sum(-1)
    direction = (
        math.lgamma((1 + dim) / 2) - math.lgamma(0.5) - dim / 2 * math.log(math.pi)
        - tau.log().sum(-1) + 0.5 * (m * tau).square().sum(-1).log()
        - (1 + dim) / 2 * torch.log1p(q)
    )  # fmt: skip
    radial = -math.log(math.pi) - torch.log1p((radius - z.norm(dim=-1)).square())
    kl = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum(-1)
    return -(direction + radial - kl).mean() / loc.shape[-1]


def make_step(method: VJE, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    """One optimiser step on given views."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, fused=True)

    def step(views: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(views).backward()
        optimizer.step()

    return step


@contextmanager
def counted_transfers() -> Iterator[list[str]]:
    """Names of the tensor methods that moved a value to the host inside the block."""
    moved: list[str] = []
    originals = {name: getattr(Tensor, name) for name in HOST_TRANSFERS}
    for name, original in originals.items():

        def spy(self: Tensor, *args: object, _n: str = name, _o: Callable = original) -> object:
            moved.append(_n)
            return _o(self, *args)

        setattr(Tensor, name, spy)
    try:
        yield moved
    finally:
        for name, original in originals.items():
            setattr(Tensor, name, original)


def measure(batch_size: int, image_size: int, steps: int, device: torch.device) -> dict:
    """Medians and spreads of both steps, and their ratio."""
    methods: dict[str, VJE] = {
        name: small_vje().to(device, memory_format=torch.channels_last)
        for name in ("vje", "by_hand")
    }
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "vje": lambda views: methods["vje"].loss(views).total,
        "by_hand": partial(loss_by_hand, methods["by_hand"]),
    }
    views = torch.randn(2, batch_size, 3, image_size, image_size, device=device)
    with torch.no_grad():
        torch.manual_seed(1)
        ours = losses["vje"](views).item()
        torch.manual_seed(1)
        theirs = losses["by_hand"](views).item()
    if not math.isclose(ours, theirs, rel_tol=1e-4):
        raise AssertionError(f"the two losses differ: {ours} and {theirs}")
    runs = {name: make_step(methods[name], losses[name]) for name in methods}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(steps + 2):
        # The first of a pair pays for caches the second finds warm: take turns at being first.
        for name in sorted(runs, reverse=bool(number % 2)):
            start = time.perf_counter()
            runs[name](views)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    with counted_transfers() as moved:
        runs["vje"](views)
    summary = {
        name: {
            "median_s": statistics.median(seconds),
            "quartiles_s": statistics.quantiles(seconds, n=4)[::2],
        }
        for name, seconds in times.items()
    }
    ratios = sorted(a / b for a, b in zip(times["vje"], times["by_hand"], strict=True))
    return {
        "ratio": summary["vje"]["median_s"] / summary["by_hand"]["median_s"],
        "paired_ratio_quartiles": statistics.quantiles(ratios, n=4),
        "steps": summary,
        "host_transfers_per_step": len(moved),
    }


def main() -> None:
    """Parse the command line, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with pyro.validation_enabled(False):
        figures = measure(
            options.batch_size, options.image_size, options.steps, torch.device(options.device)
        )
    settings = {k: v for k, v in vars(options).items() if k != "out"}
    settings["threads"] = torch.get_num_threads()
    write_record(options.out, "step", **figures, settings=settings)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
