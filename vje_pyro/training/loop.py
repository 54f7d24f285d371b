"""The training loop on Lightning Fabric: any method, resumable at every step.

The whole state of a run is its last checkpoint: weights, optimiser state, the step. All randomness
depends on ``(seed, step, rank)`` (:mod:`vje_pyro.training.seeding`), the batches on
``(seed, epoch)``, the learning rate on the step; so a run that was killed goes on bit for bit (on
the CPU; on GPUs as far as their kernels are deterministic).
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from vje_pyro.method import Method, require
from vje_pyro.ranges import PositiveFloat, PositiveInt
from vje_pyro.training.checkpointing import Checkpointing, Plan
from vje_pyro.training.clock import Clock
from vje_pyro.training.collapse import CollapseError
from vje_pyro.training.devices import peak_memory
from vje_pyro.training.interrupt import Interrupted, InterruptRequest
from vje_pyro.training.labels import labels_for
from vje_pyro.training.logs import RunLogs
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.progress import make_progress
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.run_json import write_run_json
from vje_pyro.training.schedule import WarmupCosine, set_rate
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import Stepper
from vje_pyro.training.step_means import StepMeans
from vje_pyro.training.trackers import Tracker, Trackers

logger = logging.getLogger(__name__)

DEFAULT_SCHEDULE = WarmupCosine()
FIGURES = ("knn", "rankme", "active_units", "embedding_std")
"""Columns of ``epochs.csv`` that a monitor measures."""


class Loader(Protocol):
    """Batches of this process; ``b`` is the batch size divided by the number of processes."""

    steps_per_epoch: int
    labels: Tensor
    """Of all images, by index, int64; −1 where the class is not known."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``(images, indices)`` of an epoch from ``start_step`` on, ``b`` images each."""


@dataclass(frozen=True)
class FitResult:
    """What a finished training leaves behind."""

    step: int  #: Optimiser steps done.
    epoch: int  #: Epochs begun.
    last: Path  #: The last checkpoint.
    best: Path | None  #: The best checkpoint, or None if there was no epoch to judge.
    best_metric: str | None  #: ``knn``, ``elbo`` or ``loss``, what it is best by.
    best_value: float | None  #: Its value there.
    seconds: float  #: Wall time over all resumptions.


@dataclass(eq=False)
class Trainer:
    """Trains a method and keeps everything about it in a run directory.

    Args:
        method: Moved to the device and trained in place.
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
        monitor: Measures the representation after epochs, in the first process; None leaves that
            out.
        config: Stored in run.json and in each checkpoint.
        data_digest: Of the images that are trained on, stored in run.json.
        resume: Continue from the last checkpoint of ``run_dir``.
        log_every: Steps that a row of ``steps.csv`` averages over.
        checkpoint_every_epochs: Keep a checkpoint of every so many epochs; None keeps none.
        checkpoint_every_steps: Renew the last checkpoint this often within an epoch; None renews it
            after each epoch only.
        clip_grad_norm: Largest norm of the whole gradient; None does not clip.
        accumulate: Parts that a batch is split into to save memory.
        progress: Show a progress bar (in a terminal) or log a line per epoch.
        trackers: Services that are told what the CSV files of the run have, by name.

    Raises:
        DataError: The method learns from labels, and the images have none.
        VJEError: It is no :class:`~vje_pyro.method.Method`.
        ValueError: A count below one.
    """

    method: Method
    loader: Loader
    views: Callable[[Tensor], Tensor]
    _: KW_ONLY
    fabric: Fabric
    run_dir: str | Path | RunDir
    optimizer: Callable[[list[dict[str, Any]]], Optimizer]
    schedule: Callable[[int, int], float] = DEFAULT_SCHEDULE
    epochs: PositiveInt
    max_steps: PositiveInt | None = None
    seed: int = 0
    monitor: Monitor | None = None
    config: dict[str, Any] = field(default_factory=dict)
    data_digest: str | None = None
    resume: bool = False
    log_every: PositiveInt = 10
    checkpoint_every_epochs: PositiveInt | None = None
    checkpoint_every_steps: PositiveInt | None = None
    clip_grad_norm: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    progress: bool = True
    trackers: Mapping[str, Tracker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = ("epochs", "max_steps", "log_every")
        for name in (*counts, "checkpoint_every_epochs", "checkpoint_every_steps"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        self.step = 0  # steps done
        self.total = min(self.epochs * self.loader.steps_per_epoch, self.max_steps or sys.maxsize)
        self._images = 0  # seen since the last log row
        self._begun: int | None = 0  # step that this process began at, until the first log row
        self._rate = 0.0
        self._means = StepMeans(self._mean_over_processes)
        self._clock = Clock()
        require(self.method, Method)
        self._labels = labels_for(self.method, self.loader, self.fabric.device)
        self._logs: RunLogs | None = None

    def fit(self) -> FitResult:
        """Take all the steps that are left.

        Raises:
            CheckpointError: The run directory is in use or not writable, or cannot be resumed.
            NonFiniteError: A term of the loss, the gradient or a weight became NaN or infinite.
            Interrupted: SIGINT or SIGTERM came; the run was saved before.
            CollapseError: The collapse alarm rang and is set to stop; the run was saved before.
            ValueError: A knob out of its range.
        """
        directory = self.run_dir if isinstance(self.run_dir, RunDir) else RunDir(self.run_dir)
        first = self.fabric.is_global_zero
        claim = directory.claim(self.resume) if first else nullcontext()
        with claim, InterruptRequest() as self._interrupt:
            self._stepper = Stepper(
                self.method, self.optimizer, self.fabric, self.clip_grad_norm, self.accumulate
            )
            plan = Plan(seed=self.seed, steps_per_epoch=self.loader.steps_per_epoch)
            self._checkpointing = Checkpointing(
                directory, self.method, self._stepper.optimizer, self.config, plan
            )
            if self.resume:
                self._restore()
            else:
                self._save()  # so that a run can be resumed from its first step on
            if first:
                self._describe(directory)
            self._shown = make_progress(
                self.progress and first, self.total, self.step, self._epoch(self.total)
            )
            status: Literal["success", "failed"] = "failed"
            try:
                self._train()
                status = "success"
            finally:
                self._shown.close()
                if self._logs is not None:
                    self._logs.close(status)
        best = self._checkpointing.best
        return FitResult(
            step=self.step,
            epoch=self._epoch(self.step),
            last=directory.last,
            best=directory.best if best else None,
            best_metric=best.metric if best else None,
            best_value=best.value if best else None,
            seconds=self._clock.seconds(),
        )

    def _describe(self, directory: RunDir) -> None:
        resumed_at = self.step if self.resume else None
        write_run_json(
            directory.path,
            self.config,
            seed=self.seed,
            resumed_at=resumed_at,
            data_digest=self.data_digest,
            precision=getattr(self.fabric.strategy.precision, "precision", None),
        )
        trackers = Trackers(self.trackers, directory.logs, self.config, resumed_at)
        self._logs = RunLogs(directory.logs, resumed_at, trackers)

    # ---------------------------------------------------------------- the loop

    def _train(self) -> None:
        self.method.train()
        self._begun = self.step
        per_epoch = self.loader.steps_per_epoch
        self._clock.lap()
        for epoch in range(self.step // per_epoch, self._epoch(self.total)):
            if self.step == self.total:  # resumed when there was nothing left to do
                return
            for batch in self.loader.epoch(epoch, start_step=self.step % per_epoch):
                self._train_step(*batch)
                self._after_step()
                if self.step == self.total:
                    return

    def _train_step(self, images: Tensor, indices: Tensor) -> None:
        seed_step(self.seed, self.step, self.fabric.global_rank)
        self._rate = set_rate(self._stepper.optimizer, self.schedule(self.step, self.total))
        with torch.no_grad():
            views = self.views(images.to(self.fabric.device, non_blocking=True))
        terms, monitors = self._stepper.step(views, *(x[indices] for x in self._labels))
        self.step += 1
        self.method.after_step(self.step / self.total)
        self._images += len(images) * self.fabric.world_size
        self._means.add(self.step, terms, monitors)
        self._shown.step()

    def _after_step(self) -> None:
        done = self.step == self.total
        if done or self.step % self.log_every == 0:
            self._log()
        if done or self.step % self.loader.steps_per_epoch == 0:
            self._end_epoch()
        elif self.checkpoint_every_steps and self.step % self.checkpoint_every_steps == 0:
            self._save()
        if self._stop_requested():
            if self._checkpointing.saved_step != self.step:
                self._save()
            signum = self._interrupt.signum or self._interrupt.signals[0]
            raise Interrupted(signum, self.step, self._checkpointing.directory.last)

    def _log(self) -> None:
        self._fetch()
        images, self._images = self._images, 0
        seconds = max(self._clock.lap(), 1e-9)
        if self._begun is not None and self.progress and self.fabric.is_global_zero:
            _log_estimate(seconds, self.step - self._begun, self.total - self.step)
        self._begun = None
        row = {
            "step": self.step,
            "epoch": self._epoch(self.step),
            "time": round(self._clock.seconds(), 3),
            "images_per_second": round(images / seconds, 3),
            "lr": self._rate,
            **self._means.take("interval"),
        }
        if self._logs is not None:
            self._logs.write("step", row)
        self._shown.interval(row)

    def _end_epoch(self) -> None:
        self._fetch()
        epoch, means = self._epoch(self.step), self._means.take("epoch")
        with self._clock.pause():
            figures, alarms, stop = self._measure(epoch, means)
        seconds = self._clock.seconds()
        row = {
            "epoch": epoch,
            "step": self.step,
            "time": round(seconds, 3),
            "loss": means["loss"],
            **{name: figures.get(name, "") for name in FIGURES},
            "peak_memory": peak_memory(self.fabric.device),
            "alarms": "; ".join(alarms),
        }
        if self._logs is not None:
            self._logs.write("epoch", row)
        self._shown.epoch(row, seconds / self.step * (self.total - self.step))
        self._save(*self._kept(epoch, means | figures))
        if stop:
            raise CollapseError(
                f"The representation collapsed after epoch {epoch}: {'; '.join(alarms)}. The run "
                f"is saved in {self._checkpointing.directory.last}. Start a new one with another "
                "learning rate, weight decay or views; monitor.alarm.on_collapse=warn only warns."
            )

    def _measure(
        self, epoch: int, means: dict[str, float]
    ) -> tuple[dict[str, float], list[str], bool]:
        """Figures, alarms, and whether to stop: measured by one process and told to all."""
        measured: tuple[dict[str, float], list[str], bool] = {}, [], False
        monitor = self.monitor
        due = monitor and (epoch % monitor.every_epochs == 0 or self.step == self.total)
        if monitor is not None and due and self.fabric.is_global_zero:
            with self.fabric.autocast():
                figures = monitor.measure(self.method)
            alarms = monitor.check(means | figures, epoch, self.method.num_features)
            measured = figures, alarms, bool(alarms) and monitor.alarm.on_collapse == "stop"
        return self.fabric.broadcast(measured)

    def _kept(self, epoch: int, figures: dict[str, float]) -> Iterator[Path]:
        """Checkpoints to write after ``epoch``, beside the last one."""
        directory = self._checkpointing.directory
        by = "elbo" if "elbo" in figures else "loss"
        if self.monitor is not None and self.monitor.scores:
            by = "knn"
        if self._checkpointing.is_best(epoch, by, figures.get(by)):
            yield directory.best
        if self.checkpoint_every_epochs and epoch % self.checkpoint_every_epochs == 0:
            yield directory.epoch_checkpoint(epoch)

    def _stop_requested(self) -> bool:
        requested = self._interrupt.signum is not None
        if self.fabric.world_size == 1:
            return requested
        if self.step % self.log_every:  # processes agree at log steps, where they wait anyway
            return False
        flag = torch.tensor(float(requested), device=self.fabric.device)
        return bool(self._mean_over_processes(flag) > 0)

    def _save(self, *also: Path) -> None:
        """Write the state to ``also`` and then to the last checkpoint, if all of it is finite."""
        self._fetch()
        with self._clock.pause():
            if self.fabric.is_global_zero:
                extra = {"seconds": self._clock.seconds(), "meter": self._means.state()}
                epochs_done = self.step // self.loader.steps_per_epoch
                self._checkpointing.save(self.step, epochs_done, extra, also)
            self._checkpointing.saved_step = self.step
            self.fabric.barrier()  # so that no process ends a run that is not on the disk yet

    def _restore(self) -> None:
        self.step, progress = self._checkpointing.restore(self.total)
        self._means.load_state(progress.meter.model_dump())
        self._clock = Clock(progress.seconds)
        logger.info("Resuming at step %d of %d.", self.step, self.total)

    def _epoch(self, step: int) -> int:
        """Epoch in progress at ``step``, or just completed, from 1."""
        return math.ceil(step / self.loader.steps_per_epoch)

    def _fetch(self) -> None:
        if found := self._means.fetch():
            raise self._checkpointing.failure(str(found))

    def _mean_over_processes(self, rows: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(rows))


def _log_estimate(seconds: float, steps: int, left: int) -> None:
    """Tell how long a training takes, once a few steps are done."""
    if left:
        duration = timedelta(seconds=round(seconds / steps * left))
        logger.info(
            "time    about %s for the %s steps that are left (training.epochs changes it)",
            duration,
            f"{left:,}",
        )
