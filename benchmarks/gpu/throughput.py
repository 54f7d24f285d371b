"""Steps ``throughput-…``: what a training step costs beside the encoder's forward and backward.

In one process and in turns: the bound (forward and backward of the encoder under autocast, on
views that are ready) and the whole step of a training (batch, views, loss, backward, optimiser,
meter). Each is timed in blocks between two synchronisations; medians are over blocks.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from omegaconf import OmegaConf
from step import counted_transfers
from torch import Tensor
from vje_pyro.experiments.pretrain import CONFIG_DIR, make_fabric
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import VJE

from gpu.context import Context
from gpu.report import Outcome, part, spread
from gpu.stopwatch import Stopwatch
from vje_pyro.building import build
from vje_pyro.data import Views
from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.evaluation import Figure
from vje_pyro.training.meter import Meter
from vje_pyro.training.optim import param_groups
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import Stepper

MIB = 2**20


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Args:
        encoder: Makes it.
        image_size: Side of a view in pixels.
        stored_size: Side of the stored images that views are cut from.
        views: Name of the configuration of the views.
        batch_sizes: All are measured as they are, and ``main`` in every mode.
        main: The batch size that counts.
        blocks: Timed blocks of each.
        steps: Steps of a block.
    """

    encoder: Callable[[], torch.nn.Module]
    image_size: int
    stored_size: int
    views: str
    batch_sizes: tuple[int, ...]
    main: int
    blocks: int = 12
    steps: int = 10


RESNET18 = Setup(
    partial(ResNet, "resnet18", image_size=32), 32, 32, "cifar", (128, 256, 512, 1024), 256
)
RESNET50 = Setup(
    partial(ResNet, "resnet50", image_size=224), 224, 256, "imagenet", (64, 128, 256), 128, 8, 5
)
TINY = Setup(
    partial(SmallResNet, widths=(8, 16), stem_width=8), 8, 8, "cifar", (8, 16), 8, 3, 2
)  # fmt: skip

MODES = ("eager", "cudnn-benchmark", "compiled")


def run(context: Context, name: str, setup: Setup) -> Outcome:
    """Measure every batch size, and the main one in every mode.

    Args:
        context: Where.
        name: Name of the step, which parts are kept under.
        setup: What.
    """
    setup = TINY if context.tiny else setup
    jobs = [("eager", batch) for batch in setup.batch_sizes]
    jobs += [(mode, setup.main) for mode in MODES[1:]]
    jobs += [("compiled", max(setup.batch_sizes))] * (setup.main != max(setup.batch_sizes))
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    for mode, batch in jobs:
        label = f"{mode}-{batch}"
        found = part(context, name, label, lambda m=mode, b=batch: _measure(setup, m, b, context))
        figures |= {f"{label}_{k}": Figure(**v) for k, v in found["figures"].items()}
        details[label] = found["details"]
    settings = {
        "image_size": setup.image_size, "stored_size": setup.stored_size, "views": setup.views,
        "blocks": setup.blocks, "steps": setup.steps, "main_batch_size": setup.main,
    }  # fmt: skip
    return Outcome(figures, settings, (0,), details)


def _measure(setup: Setup, mode: str, batch: int, context: Context) -> dict[str, Any]:
    """Figures of one mode and batch size; of a batch that does not fit only that it does not."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = mode == "cudnn-benchmark"
    try:
        with pyro.validation_enabled(False):
            return _Bench(setup, mode == "compiled", batch, context).measure()
    except torch.OutOfMemoryError:
        return {"figures": {}, "details": {"out_of_memory": True}}
    finally:
        torch.backends.cudnn.benchmark = before
        torch.compiler.reset()  # what was compiled for one batch size must not weigh on the next
        if context.device.type == "cuda":
            torch.cuda.empty_cache()


class _Bench:
    """A method ready to train, with the two things that are timed: ``bound`` and ``step``."""

    def __init__(self, setup: Setup, compiled: bool, batch: int, context: Context) -> None:
        torch.manual_seed(0)
        self.setup, self.context = setup, context
        accelerator = {"accelerator": context.device.type, "devices": 1, "num_nodes": 1}
        device = OmegaConf.create({**accelerator, "strategy": "auto", "precision": "auto"})
        self.fabric = make_fabric(device)
        self.method = VJE(
            setup.encoder(),
            DiagonalNormal,
            partial(SphericalStudentT, df=1.0),
            partial(RadialStudentT, scale=1.0, df=1.0),
        ).to(context.device, memory_format=torch.channels_last)
        if compiled:
            options = {"backend": "aot_eager"} if context.tiny else {}
            self.method.encoder.compile(dynamic=False, **options)
        self.stepper = Stepper(self.method, partial(torch.optim.AdamW, fused=True), self.fabric)
        # Of its own, for the split; that of the stepper is wrapped.
        self.optimizer = torch.optim.AdamW(param_groups(self.method), fused=True)
        self.meter, self.count = Meter(), 0
        self.make_views = self._views()
        shape = (4 * batch, 3, setup.stored_size, setup.stored_size)
        self.images = torch.randint(256, shape, dtype=torch.uint8, device=context.device)
        self.batches = torch.randint(len(self.images), (64, batch), device=context.device)
        self.ready = self.make_views(self.images[:batch])

    def _views(self) -> Views:
        config = OmegaConf.load(CONFIG_DIR / "views" / f"{self.setup.views}.yaml")
        moments = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        views: Views = build(config, image_size=self.setup.image_size, **moments)
        return views

    # ------------------------------------------------------------------ what is timed

    def bound(self) -> None:
        """Forward and backward of the encoder, view by view as the method does it."""
        with self.fabric.autocast():
            embeddings = [self.method.encoder(view) for view in self.ready]
        sum(e.float().square().mean() for e in embeddings).backward()
        self.method.zero_grad(set_to_none=True)

    def step(self) -> None:
        """What the training loop does between two log steps."""
        seed_step(0, self.count)
        images = self.images[self.batches[self.count % len(self.batches)]]
        with torch.no_grad():
            views = self.make_views(images)
        terms, monitors = self.stepper.step(views)
        self.count += 1
        self.meter.add(self.count, terms, monitors)

    def split_step(self, watch: Stopwatch) -> None:
        """The same piece by piece; ``watch`` is told where a piece ends."""
        images = self.images[self.batches[0]]
        watch.mark("batch")
        with torch.no_grad():
            views = self.make_views(images)
        watch.mark("views")
        embed = self.method.embed

        def timed(view: Tensor) -> Tensor:
            watch.mark("head")
            embedding = embed(view)
            watch.mark("encoder")
            return embedding

        self.method.embed = timed
        try:
            with self.fabric.autocast():
                total = self.method.loss(views).total
        finally:
            del self.method.embed
        watch.mark("head")
        total.backward()
        watch.mark("backward")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        watch.mark("optimizer")

    # ------------------------------------------------------------------- the figures

    def measure(self) -> dict[str, Any]:
        """Times, memory and synchronisations of this batch size."""
        for _ in range(3):  # compiles, chooses kernels, fills the allocator's cache
            self.bound()
            self.step()
        memory = self._memory()
        times = self._times()
        batch = self.ready.shape[1]
        seconds, bounds = times["step"], times["bound"]
        ratios = [s / b for s, b in zip(seconds, bounds, strict=True)]
        figures = {
            "step_ms": spread([1000 * s for s in seconds], "blocks"),
            "bound_ms": spread([1000 * s for s in bounds], "blocks"),
            "ratio_to_bound": spread(ratios, "pairs of blocks"),
            "images_per_second": spread([batch / s for s in seconds], "blocks"),
        }
        for name, values in self._split().items():
            figures[f"split_{name}_ms"] = spread(values, "steps")
        details = {**memory, "synchronisations_per_step": self._synchronisations()}
        details["precision"] = str(self.fabric._precision.precision)
        return {"figures": {k: vars(v) for k, v in figures.items()}, "details": details}

    def _times(self) -> dict[str, list[float]]:
        """Seconds of a step and of the bound, one a block, the blocks in turns."""
        times: dict[str, list[float]] = {"bound": [], "step": []}
        for number in range(self.setup.blocks):
            for name in sorted(times, reverse=bool(number % 2)):
                run = getattr(self, name)
                self._synchronise()
                start = time.perf_counter()
                for _ in range(self.setup.steps):
                    run()
                self._synchronise()
                times[name].append((time.perf_counter() - start) / self.setup.steps)
            self.meter.fetch()
        return times

    def _split(self) -> dict[str, list[float]]:
        """Milliseconds of every piece of a step; the first steps warm up."""
        rows = []
        for _ in range(self.setup.steps + 2):
            watch = Stopwatch(self.context.device)
            self.split_step(watch)
            rows.append(watch.milliseconds())
        return {name: [row[name] for row in rows[2:]] for name in rows[0]}

    def _memory(self) -> dict[str, Any]:
        """Peak MiB of the step and of the bound; the same weights and states lie there for both."""
        views = self.ready.nbytes / MIB
        if self.context.device.type != "cuda":
            return {"views_mib": views}
        peaks = {}
        for name, run in (("bound_peak_mib", self.bound), ("step_peak_mib", self.step)):
            self._synchronise()
            torch.cuda.reset_peak_memory_stats()
            run()
            self._synchronise()
            peaks[name] = torch.cuda.max_memory_allocated() / MIB
        return {"views_mib": views, **peaks}

    def _synchronisations(self) -> float:
        """Waits for the device in a step, as CUDA reports them; else the transfers to the host."""
        if self.context.device.type != "cuda":
            with counted_transfers() as moved:
                self.step()
            return len(moved)
        return count_synchronisations([self.step] * self.setup.steps) / self.setup.steps

    def _synchronise(self) -> None:
        if self.context.device.type == "cuda":
            torch.cuda.synchronize()


def count_synchronisations(calls: Sequence[Callable[[], None]]) -> int:
    """How often the host waits for the device in these calls, as CUDA's debug mode warns."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for call in calls:
                call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
