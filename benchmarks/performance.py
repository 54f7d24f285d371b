"""What training costs, beside the encoder alone and beside lightly: docs/performance.md.

    python benchmarks/performance.py [PART …] [--device cpu] [--threads 1] [--blocks 9]

Each part writes docs/results/benchmarks/<part>-<device>.json; ``make results`` makes the page.

- ``peers``: bound, VJE, lightly's SimSiam and VICReg, in turns, for the small residual network at
  16 and at 32 pixels, batch 256; the split of a step.
- ``aggregate``: the step with each aggregate term beside the step without, in turns.
- ``methods``: a step of every method of the study of methods on the same views, in turns with
  the bound; give it that study's ``--batch 64 --image-sizes 16``.
- ``precision``: the step in float32 beside the step with the encoder in bfloat16, in turns.
- ``growth``: step and bound over batch size, embedding dimension and image size.
- ``ranks``: images per second of ``vje train`` with one and with two processes.
- ``scoring``: log-likelihoods per second beside embeddings per second.
- ``startup``: wall time of ``vje --help`` and ``vje train --help`` beside ``import torch``.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from gpu.report import describe, spread
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from training_step import Setup, TrainingStep, in_turns
from vje_pyro.experiments.pretrain import CONFIG_DIR

from vje_pyro.atomic import write_atomic
from vje_pyro.building import build
from vje_pyro.encoders import SmallResNet
from vje_pyro.evaluation import Figure
from vje_pyro.provenance import git_commit, versions
from vje_pyro.training.step import Stepper

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks"
SCHEMA, SCHEMA_VERSION = "vje-pyro-performance", 1
BATCH = 256
VJE = [sys.executable, "-c", "from vje_pyro.cli import main; main()"]

GROWTH = {
    **{f"batch_{batch}": (16, 256, batch) for batch in (64, 128, 256, 512)},
    **{f"dim_{dim}": (16, dim, BATCH) for dim in (128, 256, 512)},
    **{f"pixels_{size}": (size, 256, BATCH) for size in (16, 32)},
}
"""Image size, embedding dimension and batch size of every case of the part ``growth``."""

AGGREGATES = ("sigreg", "sliced_wasserstein", "variance_covariance")

Figures = dict[str, Figure]


def small(image_size: int, width: int = 256) -> Setup:
    """The small residual network with ``width`` features, views of the CIFAR recipe."""
    widths = (width // 4, width // 2, width)
    return Setup(partial(SmallResNet, widths=widths), image_size, image_size, "cifar")


def beside(times: Mapping[str, Sequence[float]], name: str, other: str) -> Figure:
    """Ratio of the times of two that ran in turns, block by block."""
    pairs = zip(times[name], times[other], strict=True)
    return spread([a / b for a, b in pairs], "pairs of blocks")


def peers(options: argparse.Namespace) -> Figures:
    """Bound, VJE and lightly's methods in turns, at each image size."""
    from peers import Peer, SimSiam, VICReg

    figures: Figures = {}
    for size in options.image_sizes:
        setup = small(size, options.width)
        # lightly's examples compute in float32.
        step = TrainingStep(setup, options.batch, options.device, precision="32-true")
        images = step.loader.images.cpu()
        runs = {"bound": step.bound, "vje": step.step}
        for name, model in {"simsiam": SimSiam, "vicreg": VICReg}.items():
            peer = Peer(model(setup.encoder()), images, size, options.batch, options.workers)
            runs[f"lightly_{name}"] = peer.step
        for run in runs.values():
            run()
        times = in_turns(runs, options.blocks, 1, step.synchronise)
        for name, seconds in times.items():
            label = f"{size}px_{name}"
            figures[f"{label}_images_per_second"] = spread(
                [options.batch / s for s in seconds], "steps"
            )
            if name != "bound":
                figures[f"{label}_to_bound"] = beside(times, name, "bound")
            if name.startswith("lightly"):
                figures[f"{size}px_vje_speed_over_{name}"] = beside(times, name, "vje")
        for name, figure in split(step, options.blocks).items():
            figures[f"{size}px_{name}"] = figure
    return figures


def split(step: TrainingStep, blocks: int) -> Figures:
    """Milliseconds of a step's pieces and their shares of it."""
    rows = [step.split() for _ in range(blocks + 1)][1:]
    shares = [{name: ms / sum(row.values()) for name, ms in row.items()} for row in rows]
    figures = {f"split_{n}_ms": spread([r[n] for r in rows], "steps") for n in rows[0]}
    figures |= {f"share_{n}": spread([r[n] for r in shares], "steps") for n in rows[0]}
    both = [r["head"] + r["head_backward"] for r in shares]
    return figures | {"share_whole_head": spread(both, "steps")}


def aggregate(options: argparse.Namespace) -> Figures:
    """The step with each aggregate term over the step without, and the term alone over it."""
    figures: Figures = {}
    for size in options.image_sizes:
        configs = {n: OmegaConf.load(CONFIG_DIR / "aggregate" / f"{n}.yaml") for n in AGGREGATES}
        terms = {name: build(config) for name, config in configs.items()}
        setup, where = small(size, options.width), (options.batch, options.device)
        steps = {n: TrainingStep(setup, *where, aggregate=term) for n, term in terms.items()}
        steps["none"] = plain = TrainingStep(setup, *where)
        runs = {name: step.step for name, step in steps.items()}
        shape = (len(plain.ready) * options.batch, plain.method.num_features)
        embeddings = torch.randn(shape, device=options.device, requires_grad=True)
        for name, term in terms.items():
            runs[f"{name}_alone"] = partial(_forward_and_backward, term, embeddings)
        for run in runs.values():
            run()
        times = in_turns(runs, options.blocks, 1, plain.synchronise)
        figures[f"{size}px_none_ms"] = spread([1000 * s for s in times["none"]], "steps")
        for name in AGGREGATES:
            for kind in (name, f"{name}_alone"):
                figures[f"{size}px_{kind}_to_none"] = beside(times, kind, "none")
    return figures


def _forward_and_backward(term: torch.nn.Module, embeddings: torch.Tensor) -> None:
    torch.autograd.grad(term(embeddings), embeddings)


def methods(options: argparse.Namespace) -> Figures:
    """A step of every method of the study, its teacher's too, beside the encoder alone."""
    from methods import METHODS

    figures: Figures = {}
    for size in options.image_sizes:
        base = TrainingStep(small(size, options.width), options.batch, options.device)
        runs = {name: _step_of(settings, base, options) for name, settings in METHODS.items()}
        runs["bound"] = base.bound
        for run in runs.values():
            run()
        times = in_turns(runs, options.blocks, 1, base.synchronise)
        figures[f"{size}px_bound_ms"] = spread([1000 * s for s in times["bound"]], "steps")
        for name in METHODS:
            figures[f"{size}px_{name}_to_bound"] = beside(times, name, "bound")
    return figures


def _step_of(
    settings: Sequence[str], base: TrainingStep, options: argparse.Namespace
) -> Callable[[], None]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", ["experiment=cifar10_small", *settings])
    config.encoder.widths = [options.width // 4, options.width // 2, options.width]
    config.image = {"channels": 3, "size": base.ready.shape[-1]}
    method = build(config.method).to(memory_format=torch.channels_last)
    stepper = Stepper(method, partial(torch.optim.AdamW, fused=True), base.fabric)

    def step() -> None:
        stepper.step(base.ready)
        if hasattr(method, "after_step"):
            method.after_step(0.5)

    return step


def precision(options: argparse.Namespace) -> Figures:
    """The step in float32 over the step with the encoder in bfloat16."""
    figures: Figures = {}
    for size in options.image_sizes:
        where = (small(size, options.width), options.batch, options.device)
        steps = {p: TrainingStep(*where, precision=p) for p in ("32-true", "bf16-mixed")}
        runs = {name: step.step for name, step in steps.items()}
        for run in runs.values():
            run()
        times = in_turns(runs, options.blocks, 1, steps["32-true"].synchronise)
        figures[f"{size}px_float32_ms"] = spread([1000 * s for s in times["32-true"]], "steps")
        figures[f"{size}px_bfloat16_speed"] = beside(times, "32-true", "bf16-mixed")
    return figures


def growth(options: argparse.Namespace) -> Figures:
    """Step and bound when one of batch size, dimension and image size changes."""
    figures: Figures = {}
    for name, (size, width, batch) in GROWTH.items():
        step = TrainingStep(small(size, width), batch, options.device)
        runs = {"bound": step.bound, "step": step.step}
        for run in runs.values():
            run()
        times = in_turns(runs, options.blocks, 1, step.synchronise)
        per_image = [1000 * s / batch for s in times["step"]]
        figures[f"{name}_ms_per_image"] = spread(per_image, "steps")
        figures[f"{name}_to_bound"] = beside(times, "step", "bound")
    return figures


def ranks(options: argparse.Namespace) -> Figures:
    """Images per second of whole trainings with one and two processes, one thread each."""
    rates = {1: [], 2: []}
    for _ in range(3):
        for number, found in rates.items():
            found.append(_trained_rate(number, options))
    figures = {
        f"ranks_{number}_images_per_second": spread(found, "trainings")
        for number, found in rates.items()
    }
    pairs = zip(rates[2], rates[1], strict=True)
    return figures | {"ranks_speedup": spread([b / a for b, a in pairs], "pairs of trainings")}


def _trained_rate(processes: int, options: argparse.Namespace) -> float:
    """Median over log rows of a short training of the small network on digits."""
    command = [
        *VJE, "train", "experiment=digits", "monitor=none",
        f"device.accelerator={options.device.type}", f"device.devices={processes}",
        "training.epochs=12", "training.log_every=5", "training.progress=false",
        "training.tensorboard=false", "data.image_size=16",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run = Path(folder) / "run"
        subprocess.run(
            [*command, f"run_dir={run}"], check=True, capture_output=True, env=environment
        )
        with (run / "logs" / "steps.csv").open() as file:
            rates = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    return statistics.median(rates[2:])  # the first ones warm up


def scoring(options: argparse.Namespace) -> Figures:
    """Images scored per second by log-likelihood, with 1 and 16 samples, and only embedded."""
    step = TrainingStep(small(32, options.width), options.batch, options.device)
    method, (first, second) = step.method.eval(), step.ready
    calls: dict[str, Callable[[], Any]] = {
        "embed": lambda: method.embed(first),
        "log_likelihood_1": lambda: method.log_likelihood(first, second, num_samples=1),
        "log_likelihood_16": lambda: method.log_likelihood(first, second, num_samples=16),
    }
    with torch.no_grad():
        for call in calls.values():
            call()
        times = in_turns(calls, options.blocks, 1, step.synchronise)
    rates = {k: [options.batch / s for s in v] for k, v in times.items()}
    figures = {f"{k}_images_per_second": spread(v, "calls") for k, v in rates.items()}
    for name in ("log_likelihood_1", "log_likelihood_16"):
        figures[f"{name}_to_embed"] = beside(times, name, "embed")
    return figures


def startup(options: argparse.Namespace) -> Figures:
    """Wall time of commands that do nothing yet, and of importing torch."""
    commands = {
        "import_torch": [sys.executable, "-c", "import torch"],
        "help": [*VJE, "--help"],
        "train_help": [*VJE, "train", "--help"],
    }
    runs = {
        name: partial(subprocess.run, command, check=True, capture_output=True)
        for name, command in commands.items()
    }
    for run in runs.values():
        run()
    times = in_turns(runs, options.blocks)
    figures = {f"{k}_s": spread(v, "starts") for k, v in times.items()}
    ratios = {
        f"{k}_to_import_torch": beside(times, k, "import_torch") for k in ("help", "train_help")
    }
    return figures | ratios


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "peers": peers, "aggregate": aggregate, "methods": methods, "precision": precision,
    "growth": growth, "ranks": ranks, "scoring": scoring, "startup": startup,
}  # fmt: skip


def write(part: str, figures: Figures, seconds: float, options: argparse.Namespace) -> Path:
    """The result file of a part."""
    settings = {
        "batch": options.batch, "image_sizes": options.image_sizes, "width": options.width,
        "blocks": options.blocks, "workers": options.workers,
    }  # fmt: skip
    content = {
        "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "part": part,
        "figures": {name: vars(figure) for name, figure in figures.items()},
        "settings": settings, "seed": 0, "seconds": round(seconds, 1),
        "device": describe(options.device), "versions": versions(), "commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    path = options.out / f"{part}-{options.device.type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=9, help="how often each is timed")
    parser.add_argument("--workers", type=int, default=0, help="of lightly's loaders")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--width", type=int, default=256, help="features of the encoder")
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for part in options.parts or PARTS:
        start = time.perf_counter()
        with pyro.validation_enabled(False):
            figures = PARTS[part](options)
        print(write(part, figures, time.perf_counter() - start, options), flush=True)


if __name__ == "__main__":
    main()
