"""Steps ``throughput-…``: what a training step costs beside the encoder's forward and backward.

In one process and in turns: the bound (forward and backward of the encoder under autocast, on
views that are ready) and the whole step of a training (batch, views, loss, backward, optimiser,
means). Each is timed in blocks between two synchronisations; medians are over blocks.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from training_step import Setup, TrainingStep, in_turns

from gpu.context import Context
from gpu.report import Outcome, part, spread
from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.evaluation import Figure


@dataclass(frozen=True)
class Sweep:
    """What is measured.

    Args:
        setup: What is trained.
        batch_sizes: All are measured as they are, and ``main`` in every mode.
        main: The batch size that counts.
        blocks: Timed blocks of each.
        steps: Steps of a block.
    """

    setup: Setup
    batch_sizes: tuple[int, ...]
    main: int
    blocks: int = 12
    steps: int = 10


RESNET18 = Sweep(
    Setup(partial(ResNet, "resnet18", image_size=32), 32, 32, "cifar"), (128, 256, 512, 1024), 256
)
RESNET50 = Sweep(
    Setup(partial(ResNet, "resnet50", image_size=224), 224, 256, "imagenet"),
    (64, 128, 256), 128, 8, 5,
)  # fmt: skip
TINY = Sweep(
    Setup(partial(SmallResNet, widths=(8, 16), stem_width=8), 8, 8, "cifar"), (8, 16), 8, 3, 2
)

MODES = ("eager", "cudnn-benchmark", "compiled")


def run(context: Context, name: str, sweep: Sweep) -> Outcome:
    """Measure every batch size, and the main one in every mode.

    Args:
        context: Where.
        name: Name of the step, which parts are kept under.
        sweep: What.
    """
    sweep = TINY if context.tiny else sweep
    jobs = [("eager", batch) for batch in sweep.batch_sizes]
    jobs += [(mode, sweep.main) for mode in MODES[1:]]
    jobs += [("compiled", max(sweep.batch_sizes))] * (sweep.main != max(sweep.batch_sizes))
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    for mode, batch in jobs:
        label = f"{mode}-{batch}"
        found = part(context, name, label, lambda m=mode, b=batch: _measure(sweep, m, b, context))
        figures |= {f"{label}_{k}": Figure(**v) for k, v in found["figures"].items()}
        details[label] = found["details"]
    settings = {
        "image_size": sweep.setup.image_size, "stored_size": sweep.setup.stored_size,
        "views": sweep.setup.views, "blocks": sweep.blocks, "steps": sweep.steps,
        "main_batch_size": sweep.main,
    }  # fmt: skip
    return Outcome(figures, settings, (0,), details)


def _measure(sweep: Sweep, mode: str, batch: int, context: Context) -> dict[str, Any]:
    """Figures of one mode and batch size; of a batch that does not fit only that it does not."""
    backend = {True: "aot_eager", False: "inductor"}[context.tiny] if mode == "compiled" else None
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = mode == "cudnn-benchmark"
    try:
        with pyro.validation_enabled(False):
            step = TrainingStep(sweep.setup, batch, context.device, backend, 4 * batch)
            return _figures(step, sweep)
    except torch.OutOfMemoryError:
        return {"figures": {}, "details": {"out_of_memory": True}}
    finally:
        torch.backends.cudnn.benchmark = before
        torch.compiler.reset()  # what was compiled for one batch size must not weigh on the next
        if context.device.type == "cuda":
            torch.cuda.empty_cache()


def _figures(step: TrainingStep, sweep: Sweep) -> dict[str, Any]:
    """Times, memory and synchronisations of a batch size."""
    for _ in range(3):  # compiles, chooses kernels, fills the allocator's cache
        step.bound()
        step.step()
    memory = step.peaks()
    runs = {"bound": step.bound, "step": step.step}
    times = in_turns(runs, sweep.blocks, sweep.steps, step.synchronise)
    seconds, bounds = times["step"], times["bound"]
    ratios = [s / b for s, b in zip(seconds, bounds, strict=True)]
    figures = {
        "step_ms": spread([1000 * s for s in seconds], "blocks"),
        "bound_ms": spread([1000 * s for s in bounds], "blocks"),
        "ratio_to_bound": spread(ratios, "pairs of blocks"),
        "images_per_second": spread([step.batch / s for s in seconds], "blocks"),
    }
    rows = [step.split() for _ in range(sweep.steps + 2)][2:]  # the first two warm up
    for name in rows[0]:
        figures[f"split_{name}_ms"] = spread([row[name] for row in rows], "steps")
    details = {**memory, "synchronisations_per_step": step.synchronisations(sweep.steps)}
    details["precision"] = str(step.fabric._precision.precision)
    return {"figures": {k: vars(v) for k, v in figures.items()}, "details": details}
