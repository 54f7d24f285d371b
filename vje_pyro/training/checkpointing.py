"""Which checkpoints a run keeps: the last, the best, and one every so many epochs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt
from torch import nn
from torch.optim import Optimizer

from vje_pyro.errors import CheckpointError, NonFiniteError
from vje_pyro.provenance import versions
from vje_pyro.reading import damaged, validate
from vje_pyro.training.checkpoint import (
    Checkpoint,
    Meta,
    find_nonfinite,
    load_checkpoint,
    load_model_state,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from vje_pyro.training.run_dir import RunDir

LOWER_IS_BETTER = frozenset({"loss"})

Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
"""What torch takes for a seed."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Plan(_Strict):
    """What must be the same when a run is resumed."""

    seed: Seed
    steps_per_epoch: PositiveInt


class Best(_Strict):
    """The best checkpoint so far."""

    metric: str
    value: float
    epoch: NonNegativeInt

    def is_beaten(self, metric: str, value: float) -> bool:
        """Whether ``value`` is better; by another metric it always is."""
        lower = metric in LOWER_IS_BETTER
        return metric != self.metric or (value < self.value if lower else value > self.value)


class MeansState(_Strict):
    """What :meth:`vje_pyro.training.step_means.StepMeans.state` returns."""

    names: list[str]
    interval: Annotated[tuple[NonNegativeInt, list[float]], Field(strict=False)]
    epoch: Annotated[tuple[NonNegativeInt, list[float]], Field(strict=False)]


class Progress(_Strict):
    """What a checkpoint of a run holds as ``extra``: how far it is, beside step and epoch."""

    plan: Plan
    best: Best | None
    seconds: FiniteFloat
    meter: MeansState


def read_progress(checkpoint: Checkpoint | Meta, path: Path) -> Progress:
    """What the checkpoint at ``path`` holds as ``extra``; CheckpointError if it is damaged."""
    try:
        progress: Progress = validate(Progress, checkpoint.extra)
    except ValueError as error:
        raise damaged(path, error, "Use another checkpoint of the run.") from error
    return progress


class Checkpointing:
    """Saves and restores method and optimiser of a run.

    Args:
        directory: Where the checkpoints are.
        method: What is trained.
        optimizer: Of its parameters.
        config: Stored in each checkpoint.
        plan: What must be the same when the run is resumed.
    """

    def __init__(
        self,
        directory: RunDir,
        method: nn.Module,
        optimizer: Optimizer,
        config: dict[str, Any],
        plan: Plan,
    ) -> None:
        self.directory = directory
        self.best: Best | None = None
        self.saved_step: int | None = None
        self._method, self._optimizer = method, optimizer
        self._config, self._plan = config, plan

    def is_best(self, epoch: int, metric: str, value: float | None) -> bool:
        """Whether the state after ``epoch`` is the best so far, by a value that may be unknown."""
        if value is None or (self.best and not self.best.is_beaten(metric, value)):
            return False
        self.best = Best(metric=metric, value=value, epoch=epoch)
        return True

    def save(self, step: int, epoch: int, extra: dict[str, Any], also: Iterable[Path] = ()) -> None:
        """Write the state to ``also``, then to the last checkpoint.

        A run that is killed in between repeats the step, and the others with it.

        Raises:
            NonFiniteError: A weight or buffer is not finite; nothing is written.
            CheckpointError: A file cannot be written.
        """
        state = self._method.state_dict()
        bad = find_nonfinite(state)
        if bad is not None:
            raise self.failure(f"the weight or buffer {bad} is not finite at step {step}")
        best = self.best and self.best.model_dump()
        checkpoint = Checkpoint(
            step=step,
            epoch=epoch,
            model=state,
            optimizer=pack_optimizer(self._optimizer, self._method),
            config=self._config,
            versions=versions(),
            extra={**extra, "plan": self._plan.model_dump(), "best": best},
        )
        save_checkpoint(checkpoint, *also, self.directory.last)

    def restore(self, total: int) -> tuple[int, Progress]:
        """Load the last checkpoint: steps done, and what else is to be restored.

        Raises:
            CheckpointError: It cannot be read, or belongs to another plan, model or optimiser, or
                to a run of fewer steps than ``total``.
        """
        path = self.directory.last
        checkpoint = load_checkpoint(path)
        progress = read_progress(checkpoint, path)
        before = dict(progress.plan)
        changed = [f"{n} {before[n]}, now {v}" for n, v in self._plan if before[n] != v]
        if changed:
            raise CheckpointError(
                f"{path} was trained with {'; '.join(changed)}: that would be another run. Resume "
                "with the run's own data, batch size and seed, or start a new run with init_from "
                "to take over the weights only."
            )
        step, per_epoch = checkpoint.step, self._plan.steps_per_epoch
        if step > total or checkpoint.epoch != step // per_epoch:
            raise CheckpointError(
                f"{path} was written at step {step}, with {checkpoint.epoch} epochs completed: "
                f"that does not fit a run of {total} steps, {per_epoch} an epoch. Resume with the "
                "run's own configuration, or use another checkpoint of the run."
            )
        load_model_state(self._method, checkpoint.model, path)
        unpack_optimizer(self._optimizer, self._method, checkpoint.optimizer)
        self.best, self.saved_step = progress.best, step
        return step, progress

    def failure(self, what: str) -> NonFiniteError:
        """The error for a run that is no longer finite: what is kept and what helps."""
        kept = (
            "There is no checkpoint yet."
            if self.saved_step is None
            else f"The last good checkpoint, of step {self.saved_step}, is kept: "
            f"{self.directory.last}."
        )
        return NonFiniteError(
            f"Training stopped: {what}. {kept} Start a new run from it "
            f"(init_from={self.directory.path}) with a lower learning rate (optimizer.lr) or with "
            "training.clip_grad_norm=1.0; where the precision is bf16-mixed, try 32-true."
        )
