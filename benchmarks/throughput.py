"""What a training step costs beside the encoder's forward and backward pass.

In one process and in turns: the bound (forward and backward of the encoder under autocast, on
views that are ready) and the whole step of a training (batch, views, loss, backward, optimiser,
means). Each is timed in blocks between two synchronisations; medians are over blocks.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch

from benchmarks.timing import beside, describe, in_turns, spread
from benchmarks.training_step import Setup, TrainingStep
from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.evaluation import Result

PROTOCOL = "throughput-v1"
MODES = ("eager", "cudnn-benchmark", "compiled")


@dataclass(frozen=True)
class Sweep:
    """What is measured: so many timed blocks of so many steps."""

    setup: Setup
    blocks: int = 12
    steps: int = 10


SWEEPS = {
    "resnet18": Sweep(Setup(partial(ResNet, "resnet18", image_size=32), 32, 32, "cifar")),
    "resnet50": Sweep(
        Setup(partial(ResNet, "resnet50", image_size=224), 224, 256, "imagenet"), 8, 5
    ),
}
TINY = Sweep(Setup(partial(SmallResNet, widths=(8, 16), stem_width=8), 8, 8, "cifar"), 3, 2)


def throughput(name: str, part: str, device: torch.device) -> Result:
    """One mode and batch size; of a batch that does not fit only that it does not.

    Args:
        name: Of the encoder, from :data:`SWEEPS`.
        part: ``MODE-BATCH``, a mode from :data:`MODES`.
        device: Where; on a CPU a small network and a batch of 8 go the same way in seconds.
    """
    mode, size = part.rsplit("-", 1)
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}; there are {MODES}")
    tiny = device.type == "cpu"
    sweep, batch = (TINY, 8) if tiny else (SWEEPS[name], int(size))
    backend = ("aot_eager" if tiny else "inductor") if mode == "compiled" else None
    result = Result(
        PROTOCOL, {"name": "random"}, "VJE", "encoder", {}, 0, details={"name": part},
        settings={
            "image_size": sweep.setup.image_size, "stored_size": sweep.setup.stored_size,
            "views": sweep.setup.views, "blocks": sweep.blocks, "steps": sweep.steps,
            "batch_size": batch, "mode": mode,
        },
        device=str(describe(device)["name"]),
    )  # fmt: skip
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = mode == "cudnn-benchmark"
    try:
        with pyro.validation_enabled(False):
            _measure(TrainingStep(sweep.setup, batch, device, backend, 4 * batch), sweep, result)
    except torch.OutOfMemoryError:
        result.details["out_of_memory"] = True
    finally:
        torch.backends.cudnn.benchmark = before
        torch.compiler.reset()  # what was compiled for one batch size must not weigh on the next
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return result


def _measure(step: TrainingStep, sweep: Sweep, result: Result) -> None:
    """Times, memory and synchronisations of a batch size."""
    for _ in range(3):  # compiles, chooses kernels, fills the allocator's cache
        step.bound()
        step.step()
    details: dict[str, Any] = {**describe(step.device), **step.peaks()}
    runs = {"bound": step.bound, "step": step.step}
    times = in_turns(runs, sweep.blocks, sweep.steps, step.synchronise)
    result.figures |= {
        "step_ms": spread([1000 * s for s in times["step"]], "blocks"),
        "bound_ms": spread([1000 * s for s in times["bound"]], "blocks"),
        "ratio_to_bound": beside(times, "step", "bound"),
        "images_per_second": spread([step.batch / s for s in times["step"]], "blocks"),
    }
    rows = [step.split() for _ in range(sweep.steps + 2)][2:]  # the first two warm up
    for name in rows[0]:
        result.figures[f"split_{name}_ms"] = spread([row[name] for row in rows], "steps")
    details["synchronisations_per_step"] = step.synchronisations(sweep.steps)
    details["precision"] = str(step.fabric._precision.precision)
    details.pop("name")
    result.details |= details
