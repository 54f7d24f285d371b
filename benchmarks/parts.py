"""What is timed, a function a part; ``python -m benchmarks --help`` says what each is."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from benchmarks.laws import distributions
from benchmarks.timing import beside, counted_transfers, in_turns, spread
from benchmarks.training_step import Setup, TrainingStep, loss_by_hand, small_vje
from benchmarks.views import views
from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.encoders import SmallResNet
from vje_pyro.evaluation import Figure
from vje_pyro.reading import read_csv
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.step import Stepper

BATCH = 256
VJE = [sys.executable, "-m", "vje_pyro"]
METHODS = Path(__file__).parents[1] / "studies" / "methods" / "variants.yaml"

GROWTH = {
    **{f"batch_{batch}": (16, 256, batch) for batch in (64, 128, 256, 512)},
    **{f"dim_{dim}": (16, dim, BATCH) for dim in (128, 256, 512)},
    **{f"pixels_{size}": (size, 256, BATCH) for size in (16, 32)},
}
"""Image size, embedding dimension and batch size of every case of the part ``growth``."""

AGGREGATES = ("sigreg", "sliced_wasserstein", "variance_covariance")

Figures = dict[str, Figure]
Options = argparse.Namespace
Part = Callable[[Options], Figures]


def small(image_size: int, width: int = 256) -> Setup:
    """The small residual network with ``width`` features, views of the CIFAR recipe."""
    widths = (width // 4, width // 2, width)
    return Setup(partial(SmallResNet, widths=widths), image_size, image_size, "cifar")


def at_each_size(part: Callable[[Options, int], Figures]) -> Part:
    """A part that is measured at each image size, whose figures are called ``16px_NAME``."""

    @wraps(part)
    def measured(options: Options) -> Figures:
        return {
            f"{size}px_{name}": figure
            for size in options.image_sizes
            for name, figure in part(options, size).items()
        }

    return measured


def milliseconds(seconds: Sequence[float]) -> Figure:
    """Time of a step."""
    return spread([1000 * s for s in seconds], "steps")


@at_each_size
def peers(options: Options, size: int) -> Figures:
    """Bound, VJE and lightly's methods in turns."""
    from benchmarks.peers import Peer, SimSiam, VICReg

    setup = small(size, options.width)
    # lightly's examples compute in float32.
    step = TrainingStep(setup, options.batch, options.device, precision="32-true")
    images = step.loader.images.cpu()
    runs = {"bound": step.bound, "vje": step.step}
    for name, model in {"simsiam": SimSiam, "vicreg": VICReg}.items():
        peer = Peer(model(setup.encoder()), images, size, options.batch, options.workers)
        runs[f"lightly_{name}"] = peer.step
    times = in_turns(runs, options.blocks, 1, step.synchronise)
    figures: Figures = {}
    for name, seconds in times.items():
        rates = [options.batch / s for s in seconds]
        figures[f"{name}_images_per_second"] = spread(rates, "steps")
        if name != "bound":
            figures[f"{name}_to_bound"] = beside(times, name, "bound")
        if name.startswith("lightly"):
            figures[f"vje_speed_over_{name}"] = beside(times, name, "vje")
    return figures | split(step, options.blocks)


def split(step: TrainingStep, blocks: int) -> Figures:
    """Milliseconds of a step's pieces and their shares of it."""
    rows = [step.split() for _ in range(blocks + 1)][1:]
    shares = [{name: ms / sum(row.values()) for name, ms in row.items()} for row in rows]
    figures = {f"split_{n}_ms": spread([r[n] for r in rows], "steps") for n in rows[0]}
    figures |= {f"share_{n}": spread([r[n] for r in shares], "steps") for n in rows[0]}
    both = [r["head"] + r["head_backward"] for r in shares]
    return figures | {"share_whole_head": spread(both, "steps")}


@at_each_size
def aggregate(options: Options, size: int) -> Figures:
    """The step with each aggregate term over the step without, and the term alone over it."""
    terms = {n: build(OmegaConf.load(CONFIG_DIR / "aggregate" / f"{n}.yaml")) for n in AGGREGATES}
    make = partial(TrainingStep, small(size, options.width), options.batch, options.device)
    runs = {name: make(aggregate=term).step for name, term in terms.items()}
    plain = make()
    runs["none"] = plain.step
    shape = (len(plain.ready) * options.batch, plain.method.num_features)
    embeddings = torch.randn(shape, device=options.device, requires_grad=True)
    for name, term in terms.items():
        runs[f"{name}_alone"] = partial(_forward_and_backward, term, embeddings)
    times = in_turns(runs, options.blocks, 1, plain.synchronise)
    names = [kind for name in AGGREGATES for kind in (name, f"{name}_alone")]
    figures = {f"{name}_to_none": beside(times, name, "none") for name in names}
    return {"none_ms": milliseconds(times["none"])} | figures


def _forward_and_backward(term: nn.Module, embeddings: torch.Tensor) -> None:
    torch.autograd.grad(term(embeddings), embeddings)


@at_each_size
def methods(options: Options, size: int) -> Figures:
    """A step of every method of the study, its teacher's too, beside the encoder alone."""
    study: Any = OmegaConf.to_container(OmegaConf.load(METHODS))
    base = TrainingStep(small(size, options.width), options.batch, options.device)
    runs = {
        name: _step_of({**study["overrides"], **variant}, base, options)
        for name, variant in study["variants"].items()
        if name in options.methods or not options.methods
    }
    times = in_turns({**runs, "bound": base.bound}, options.blocks, 1, base.synchronise)
    figures = {f"{name}_to_bound": beside(times, name, "bound") for name in runs}
    return {"bound_ms": milliseconds(times["bound"])} | figures


def _step_of(
    settings: Mapping[str, Any], base: TrainingStep, options: Options
) -> Callable[[], None]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [f"{key}={value}" for key, value in settings.items()])
    config.encoder.widths = [options.width // 4, options.width // 2, options.width]
    config.image = {"channels": 3, "size": base.ready.shape[-1]}
    method = build(config.method).to(memory_format=torch.channels_last)
    stepper = Stepper(method, partial(torch.optim.AdamW, fused=True), base.fabric)

    def step() -> None:
        stepper.step(base.ready)
        method.after_step(0.5)

    return step


@at_each_size
def precision(options: Options, size: int) -> Figures:
    """The step in float32 over the step with the encoder in bfloat16."""
    where = (small(size, options.width), options.batch, options.device)
    steps = {p: TrainingStep(*where, precision=p) for p in ("32-true", "bf16-mixed")}
    runs = {name: step.step for name, step in steps.items()}
    times = in_turns(runs, options.blocks, 1, steps["32-true"].synchronise)
    return {
        "float32_ms": milliseconds(times["32-true"]),
        "bfloat16_speed": beside(times, "32-true", "bf16-mixed"),
    }


def growth(options: Options) -> Figures:
    """Step and bound when one of batch size, dimension and image size changes."""
    figures: Figures = {}
    for name, (size, width, batch) in GROWTH.items():
        step = TrainingStep(small(size, width), batch, options.device)
        runs = {"bound": step.bound, "step": step.step}
        times = in_turns(runs, options.blocks, 1, step.synchronise)
        figures[f"{name}_ms_per_image"] = milliseconds([s / batch for s in times["step"]])
        figures[f"{name}_to_bound"] = beside(times, "step", "bound")
    return figures


@at_each_size
def pyro(options: Options, size: int) -> Figures:
    """A step of VJE beside the same with the loss written by hand: what Pyro costs."""
    shape = 2, options.batch, 3, size, size
    images = torch.randn(shape, device=options.device)
    made = {
        name: small_vje().to(options.device, memory_format=torch.channels_last)
        for name in ("vje", "by_hand")
    }
    losses = {
        "vje": lambda: made["vje"].loss(images).total,
        "by_hand": lambda: loss_by_hand(made["by_hand"], images),
    }
    values = []
    for loss in losses.values():
        torch.manual_seed(1)
        values.append(loss().detach())
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-4)  # the same objective

    def make(name: str) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(made[name].parameters(), lr=1e-3, fused=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            losses[name]().backward()
            optimizer.step()

        return step

    runs = {name: make(name) for name in losses}
    times = in_turns(runs, options.blocks)
    with counted_transfers() as moved:
        runs["vje"]()
    figures = {f"{name}_ms": milliseconds(seconds) for name, seconds in times.items()}
    transfers = spread([len(moved)], "steps")
    return figures | {"vje_to_by_hand": beside(times, "vje", "by_hand"), "transfers": transfers}


def ranks(options: Options) -> Figures:
    """Images per second of whole trainings with one and two processes, one thread each."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for number, found in rates.items():
            found.append(_trained_rate(number, options))
    figures = {
        f"ranks_{number}_images_per_second": spread(found, "trainings")
        for number, found in rates.items()
    }
    pairs = zip(rates[2], rates[1], strict=True)
    return figures | {"ranks_speedup": spread([b / a for b, a in pairs], "pairs of trainings")}


def _trained_rate(processes: int, options: Options) -> float:
    """Median over log rows of a short training of the small network on digits."""
    command = [
        *VJE, "train", "experiment=digits", "monitor=none",
        f"device.accelerator={options.device.type}", f"device.devices={processes}",
        "training.epochs=12", "training.log_every=5", "training.progress=false",
        "data.image_size=16",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run = Path(folder) / "run"
        subprocess.run(
            [*command, f"run_dir={run}"], check=True, capture_output=True, env=environment
        )
        rates = [float(row["images_per_second"]) for row in read_csv(RunDir(run).steps)]
    return statistics.median(rates[2:])  # the first ones warm up


def scoring(options: Options) -> Figures:
    """Images scored per second by log-likelihood, with 1 and 16 samples, and only embedded."""
    step = TrainingStep(small(32, options.width), options.batch, options.device)
    method, (first, second) = step.method.eval(), step.ready
    calls = {
        "embed": partial(method.embed, first),
        "log_likelihood_1": partial(method.log_likelihood, first, second, num_samples=1),
        "log_likelihood_16": partial(method.log_likelihood, first, second, num_samples=16),
    }
    with torch.no_grad():
        times = in_turns(calls, options.blocks, 1, step.synchronise)
    rates = {k: [options.batch / s for s in v] for k, v in times.items()}
    figures = {f"{k}_images_per_second": spread(v, "calls") for k, v in rates.items()}
    return figures | {f"{k}_to_embed": beside(times, k, "embed") for k in calls if k != "embed"}


def startup(options: Options) -> Figures:
    """Wall time of help, of a refused command, of the library, and of importing torch."""
    commands = {
        "import_torch": [sys.executable, "-c", "import torch"],
        "help": [*VJE, "--help"],
        "train_help": [*VJE, "train", "--help"],
        "evaluate_help": [*VJE, "evaluate", "--help"],
        "unknown_key": [*VJE, "train", "training.epoch=3"],
        "load": [sys.executable, "-c", "import vje_pyro; vje_pyro.load"],
    }
    runs = {
        name: partial(subprocess.run, command, check=False, capture_output=True)
        for name, command in commands.items()
    }
    times = in_turns(runs, options.blocks)
    figures = {f"{k}_s": spread(v, "starts") for k, v in times.items()}
    ratios = {f"{k}_to_import_torch": beside(times, k, "import_torch") for k in times}
    return figures | {k: v for k, v in ratios.items() if not k.startswith("import")}


PARTS: dict[str, Part] = {
    "peers": peers, "aggregate": aggregate, "methods": methods, "precision": precision,
    "growth": growth, "pyro": pyro, "ranks": ranks, "scoring": scoring, "startup": startup,
    "views": views, "distributions": distributions,
}  # fmt: skip
