"""The training loop on Lightning Fabric: any method, resumable at every step.

The whole state of a run is its last checkpoint: weights, optimiser state, the step. Everything
random depends on ``(seed, step, rank)`` (:mod:`vje_pyro.training.seeding`), the batches on
``(seed, epoch)``, the learning rate on the step; so a run that was killed goes on bit for bit
(on the CPU; on GPUs as far as their kernels are deterministic).
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from vje_pyro.method import SteppedMethod
from vje_pyro.ranges import PositiveFloat, PositiveInt
from vje_pyro.training.clock import Clock
from vje_pyro.training.collapse import CollapseError
from vje_pyro.training.devices import peak_memory
from vje_pyro.training.interrupt import Interrupted, InterruptRequest
from vje_pyro.training.keeper import Keeper, Plan
from vje_pyro.training.labels import labels_for
from vje_pyro.training.logs import RunLogs
from vje_pyro.training.meter import Meter
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.optim import WarmupCosine, set_rate
from vje_pyro.training.progress import Silence, make_progress
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.run_json import write_run_json
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import Stepper

logger = logging.getLogger(__name__)

DEFAULT_SCHEDULE = WarmupCosine()


class Loader(Protocol):
    """Batches of this process; ``b`` is the batch size divided by the number of processes."""

    steps_per_epoch: int
    labels: Tensor
    """Of all images, by index, int64; −1 where the class is not known."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``(images, indices)`` of an epoch from ``start_step`` on, ``b`` images each."""


@dataclass(frozen=True)
class FitResult:
    """What a finished training leaves behind.

    Args:
        step: Optimiser steps done.
        epoch: Epochs begun.
        last: The last checkpoint.
        best: The best checkpoint, or None if there was no epoch to judge.
        best_metric: What it is best by: ``knn``, ``elbo`` or ``loss``.
        best_value: Its value there.
        seconds: Wall time over all resumptions.
    """

    step: int
    epoch: int
    last: Path
    best: Path | None
    best_metric: str | None
    best_value: float | None
    seconds: float


def fit(
    method: nn.Module,
    loader: Loader,
    views: Callable[[Tensor], Tensor],
    *,
    fabric: Fabric,
    run_dir: str | Path | RunDir,
    optimizer: Callable[[list[dict[str, Any]]], Optimizer],
    schedule: Callable[[int, int], float] = DEFAULT_SCHEDULE,
    epochs: PositiveInt,
    max_steps: PositiveInt | None = None,
    seed: int = 0,
    monitor: Monitor | None = None,
    config: dict[str, Any] | None = None,
    data_digest: str | None = None,
    resume: bool = False,
    log_every: PositiveInt = 10,
    checkpoint_every_epochs: PositiveInt | None = None,
    checkpoint_every_steps: PositiveInt | None = None,
    clip_grad_norm: PositiveFloat | None = None,
    accumulate: PositiveInt = 1,
    progress: bool = True,
    tensorboard: bool = True,
) -> FitResult:
    """Train ``method`` and keep everything about it in ``run_dir``.

    Args:
        method: Obeys :class:`vje_pyro.method.Method`; moved to the device and trained in place.
            Its ``after_step(progress)``, if it has one, is called after every step.
        loader: Gives the batches.
        views: Makes ``(V, B, C, H, W)`` floats of a batch, on the batch's device.
        fabric: Launched; decides device, precision and processes.
        run_dir: Directory of the run; it must not hold one unless ``resume``. A :class:`RunDir`
            that this process has claimed already is taken as it is.
        optimizer: Makes the optimiser from parameter groups (``functools.partial`` of a class).
        schedule: Factor on the learning rate from ``(step, total_steps)``.
        epochs: Passes over the data.
        max_steps: Make the run this short, if ``epochs`` is longer; the schedule ends there too.
        seed: Seed of everything random in a step.
        monitor: Measures the representation after epochs; None leaves that out. Only that of the
            first process is used.
        config: Stored in run.json and in each checkpoint.
        data_digest: Of the images that are trained on, stored in run.json.
        resume: Go on from the last checkpoint of ``run_dir``.
        log_every: Steps that a row of ``steps.csv`` averages over.
        checkpoint_every_epochs: Keep a checkpoint of every so many epochs; None keeps none.
        checkpoint_every_steps: Renew the last checkpoint this often within an epoch; None renews
            it after each epoch only.
        clip_grad_norm: Largest norm of the whole gradient; None does not clip.
        accumulate: Parts that a batch is split into to save memory.
        progress: Show a progress bar (in a terminal) or log a line per epoch.
        tensorboard: Also write TensorBoard events, if it is installed.

    Raises:
        CheckpointError: The run directory is in use or not writable, or cannot be resumed.
        NonFiniteError: A term of the loss, the gradient or a weight became NaN or infinite.
        Interrupted: SIGINT or SIGTERM came; the run was saved before.
        CollapseError: The collapse alarm rang and is set to stop; the run was saved before.
        DataError: The method learns from labels, and the images have none.
        ValueError: A knob out of its range.
    """
    _check_counts(
        epochs=epochs,
        max_steps=max_steps,
        log_every=log_every,
        checkpoint_every_epochs=checkpoint_every_epochs,
        checkpoint_every_steps=checkpoint_every_steps,
    )
    directory = run_dir if isinstance(run_dir, RunDir) else RunDir(run_dir)
    config = config or {}
    claim = directory.claim(resume) if fabric.is_global_zero else nullcontext()
    with claim, InterruptRequest() as interrupt:
        stepper = Stepper(method, optimizer, fabric, clip_grad_norm, accumulate)
        plan = Plan(seed=seed, steps_per_epoch=loader.steps_per_epoch)
        run = _Run(
            method=method,
            loader=loader,
            views=views,
            fabric=fabric,
            stepper=stepper,
            keeper=Keeper(
                directory, method, stepper.optimizer, config, plan, checkpoint_every_epochs
            ),
            schedule=schedule,
            monitor=monitor,
            interrupt=interrupt,
            seed=seed,
            total=min(epochs * loader.steps_per_epoch, max_steps or sys.maxsize),
            log_every=log_every,
            save_every=checkpoint_every_steps,
        )
        if resume:
            run.restore()
        else:
            run.save()  # so that a run can be resumed from its first step on
        resumed_at = run.step if resume else None
        if fabric.is_global_zero:
            write_run_json(
                directory.path, config, seed=seed, resumed_at=resumed_at, data_digest=data_digest
            )
            run.logs = RunLogs(directory.logs, resumed_at, tensorboard)
        shown = progress and fabric.is_global_zero
        run.progress = make_progress(shown, run.total, run.step, run.epochs)
        try:
            run.train()
        finally:
            run.close()
        return run.result()


@dataclass
class _Run:
    """A run in progress; most fields are as in :func:`fit`."""

    method: Any
    loader: Loader
    views: Callable[[Tensor], Tensor]
    fabric: Fabric
    stepper: Stepper
    keeper: Keeper
    schedule: Callable[[int, int], float]
    monitor: Monitor | None
    interrupt: InterruptRequest
    seed: int
    total: int
    log_every: int
    save_every: int | None
    logs: RunLogs | None = None
    progress: Silence = field(default_factory=Silence)

    def __post_init__(self) -> None:
        self.step = 0  # steps done
        self.is_stepped = isinstance(self.method, SteppedMethod)
        self.labels = labels_for(self.method, self.loader, self.fabric.device)
        self.images = 0  # images seen since the last log row
        self.rate = 0.0
        self.meter = Meter(self._mean_over_processes)
        self.clock = Clock()

    @property
    def epochs(self) -> int:
        """Epochs in the whole run, the last one perhaps not complete."""
        return math.ceil(self.total / self.loader.steps_per_epoch)

    # ---------------------------------------------------------------- the loop

    def train(self) -> None:
        """Take all the steps that are left."""
        self.method.train()
        per_epoch = self.loader.steps_per_epoch
        self.clock.lap()
        for epoch in range(self.step // per_epoch, self.epochs):
            if self.step == self.total:  # resumed when there was nothing left to do
                return
            for batch in self.loader.epoch(epoch, start_step=self.step % per_epoch):
                self._train_step(*batch)
                self._after_step()
                if self.step == self.total:
                    return

    def _train_step(self, images: Tensor, indices: Tensor) -> None:
        seed_step(self.seed, self.step, self.fabric.global_rank)
        self.rate = set_rate(self.stepper.optimizer, self.schedule(self.step, self.total))
        with torch.no_grad():
            views = self.views(images.to(self.fabric.device, non_blocking=True))
        terms, monitors = self.stepper.step(views, *(x[indices] for x in self.labels))
        self.step += 1
        if self.is_stepped:
            self.method.after_step(self.step / self.total)
        self.images += len(images) * self.fabric.world_size
        self.meter.add(self.step, terms, monitors)
        self.progress.step()

    def _after_step(self) -> None:
        done = self.step == self.total
        if done or self.step % self.log_every == 0:
            self._log()
        if done or self.step % self.loader.steps_per_epoch == 0:
            self._end_epoch()
        elif self.save_every and self.step % self.save_every == 0:
            self.save()
        if self._stop_requested():
            self._stop()

    def _log(self) -> None:
        self._fetch()
        images, self.images = self.images, 0
        row = {
            "step": self.step,
            "epoch": self._epoch(),
            "time": round(self.clock.seconds(), 3),
            "images_per_second": round(images / max(self.clock.lap(), 1e-9), 3),
            "lr": self.rate,
            **self.meter.interval(),
        }
        if self.logs is not None:
            self.logs.step(row)
        self.progress.interval(row)

    def _end_epoch(self) -> None:
        self._fetch()
        epoch, means = self._epoch(), self.meter.epoch()
        with self.clock.pause():
            figures, alarms, stop = self._measure(epoch, means)
        row = {
            "epoch": epoch,
            "step": self.step,
            "time": round(self.clock.seconds(), 3),
            "loss": means["loss"],
            "knn": figures.get("knn", ""),
            "rankme": figures.get("rankme", ""),
            "active_units": figures.get("active_units", ""),
            "embedding_std": figures.get("embedding_std", ""),
            "peak_memory": peak_memory(self.fabric.device),
            "alarms": "; ".join(alarms),
        }
        if self.logs is not None:
            self.logs.epoch(row)
        left = self.clock.seconds() / self.step * (self.total - self.step)
        self.progress.epoch(row, left)
        metric = self._best_by(means)
        self.save(*self.keeper.judge(epoch, metric, {**means, **figures}.get(metric)))
        if stop:
            raise CollapseError(
                f"The representation collapsed after epoch {epoch}: {'; '.join(alarms)}. The run "
                f"is saved in {self.keeper.directory.last}. Start a new one with another learning "
                "rate, weight decay or views; monitor.alarm.on_collapse=warn only warns."
            )

    def _measure(
        self, epoch: int, means: dict[str, float]
    ) -> tuple[dict[str, float], list[str], bool]:
        """Figures, alarms, and whether to stop: measured by one process and told to all."""
        measured: tuple[dict[str, float], list[str], bool] = {}, [], False
        monitor = self.monitor
        if monitor is not None and self.fabric.is_global_zero and self._is_due(monitor, epoch):
            with self.fabric.autocast():
                figures = monitor.measure(self.method)
            alarms = monitor.check(means | figures, epoch, self.method.num_features)
            measured = figures, alarms, bool(alarms) and monitor.alarm.on_collapse == "stop"
        return self.fabric.broadcast(measured)

    def _is_due(self, monitor: Monitor, epoch: int) -> bool:
        return epoch % monitor.every_epochs == 0 or self.step == self.total

    def _best_by(self, means: dict[str, float]) -> str:
        if self.monitor is not None and self.monitor.scores:
            return "knn"
        return "elbo" if "elbo" in means else "loss"

    # ---------------------------------------------------------- stop on request

    def _stop_requested(self) -> bool:
        requested = self.interrupt.signum is not None
        if self.fabric.world_size == 1:
            return requested
        if self.step % self.log_every:  # processes agree at log steps, where they wait anyway
            return False
        flag = torch.tensor(float(requested), device=self.fabric.device)
        return bool(self._mean_over_processes(flag) > 0)

    def _stop(self) -> None:
        if self.keeper.saved_step != self.step:
            self.save()
        signum = self.interrupt.signum or InterruptRequest.signals[0]
        raise Interrupted(signum, self.step, self.keeper.directory.last)

    # ------------------------------------------------------------------- the rest

    def save(self, *also: Path) -> None:
        """Write the state to ``also`` and then to the last checkpoint, if all of it is finite."""
        self._fetch()
        with self.clock.pause():
            if self.fabric.is_global_zero:
                extra = {"seconds": self.clock.seconds(), "meter": self.meter.state()}
                epochs_done = self.step // self.loader.steps_per_epoch
                self.keeper.save(self.step, epochs_done, extra, *also)
            self.keeper.saved_step = self.step  # in every process
            self.fabric.barrier()  # so that no process ends a run that is not on the disk yet

    def restore(self) -> None:
        """Take up the state of the last checkpoint."""
        self.step, progress = self.keeper.restore(self.total)
        self.meter.load_state(progress.meter.model_dump())
        self.clock = Clock(progress.seconds)
        logger.info("Resuming at step %d of %d.", self.step, self.total)

    def result(self) -> FitResult:
        """Sum up."""
        best = self.keeper.best
        return FitResult(
            step=self.step,
            epoch=self._epoch(),
            last=self.keeper.directory.last,
            best=self.keeper.directory.best if best else None,
            best_metric=best.metric if best else None,
            best_value=best.value if best else None,
            seconds=self.clock.seconds(),
        )

    def close(self) -> None:
        """Finish bar and logs."""
        self.progress.close()
        if self.logs is not None:
            self.logs.close()

    def _epoch(self) -> int:
        """Epoch in progress, or just completed, from 1."""
        return math.ceil(self.step / self.loader.steps_per_epoch)

    def _fetch(self) -> None:
        fault = self.meter.fetch()
        if fault is not None:
            raise self.keeper.failure(str(fault))

    def _mean_over_processes(self, rows: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(rows))


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
