"""Which checkpoints a run keeps: the last, the best, and one every so many epochs."""

import logging
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from vje_pyro.errors import CheckpointError, NonFiniteError
from vje_pyro.provenance import versions
from vje_pyro.training.checkpoint import (
    Checkpoint,
    find_nonfinite,
    load_checkpoint,
    load_model_state,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from vje_pyro.training.run_dir import RunDir

logger = logging.getLogger(__name__)

LOWER_IS_BETTER = frozenset({"loss"})


class Keeper:
    """Saves and restores a run.

    Args:
        directory: Where the checkpoints are.
        method: Its state is saved and restored.
        optimizer: Likewise.
        config: Stored in each checkpoint.
        plan: What must be the same when the run is resumed, e.g. the seed.
        every_epochs: Keep a checkpoint of every so many epochs; None keeps none.
    """

    def __init__(
        self,
        directory: RunDir,
        method: nn.Module,
        optimizer: Optimizer,
        config: dict[str, Any],
        plan: dict[str, int],
        every_epochs: int | None = None,
    ) -> None:
        self.directory = directory
        self.best: dict[str, Any] | None = None
        self.saved_step: int | None = None
        self._method = method
        self._optimizer = optimizer
        self._config = config
        self._plan = plan
        self._every_epochs = every_epochs

    def judge(self, epoch: int, metric: str, value: float | None) -> list[Path]:
        """Checkpoints to write after ``epoch``, beside the last one.

        Args:
            epoch: Epochs done.
            metric: What the best checkpoint is best by.
            value: Its value now; None if it was not measured.
        """
        paths = []
        if value is not None and self._is_best(metric, value):
            self.best = {"metric": metric, "value": value, "epoch": epoch}
            paths.append(self.directory.best)
        if self._every_epochs and epoch % self._every_epochs == 0:
            paths.append(self.directory.epoch_checkpoint(epoch))
        return paths

    def save(self, step: int, epoch: int, extra: dict[str, Any], *also: Path) -> None:
        """Write the state to ``also``, then to the last checkpoint.

        The last one comes last: a run killed in between repeats the step, and the others with it.

        Raises:
            NonFiniteError: A weight or buffer is not finite; nothing is written.
            CheckpointError: A file cannot be written.
        """
        state = self._method.state_dict()
        bad = find_nonfinite(state)
        if bad is not None:
            raise self.failure(f"the weight or buffer {bad} is not finite at step {step}")
        checkpoint = Checkpoint(
            step=step,
            epoch=epoch,
            model=state,
            optimizer=pack_optimizer(self._optimizer, self._method),
            config=self._config,
            versions=versions(),
            extra={**extra, "plan": self._plan, "best": self.best},
        )
        save_checkpoint(checkpoint, *also, self.directory.last)
        self.saved_step = step

    def restore(self) -> Checkpoint:
        """Load the last checkpoint into method and optimiser.

        Raises:
            CheckpointError: It cannot be read, or belongs to another plan, model or optimiser.
        """
        path = self.directory.last
        checkpoint = load_checkpoint(path)
        before = checkpoint.extra.get("plan", {})
        changed = [
            f"{name} {before.get(name)}, now {value}"
            for name, value in self._plan.items()
            if before.get(name) != value
        ]
        if changed:
            raise CheckpointError(
                f"{path} was trained with {'; '.join(changed)}: that would be another run. Resume "
                "with the run's own data, batch size and seed, or start a new run with init_from "
                "to take over the weights only."
            )
        load_model_state(self._method, checkpoint.model, path)
        unpack_optimizer(self._optimizer, self._method, checkpoint.optimizer)
        self.best = checkpoint.extra.get("best")
        self.saved_step = checkpoint.step
        return checkpoint

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

    def _is_best(self, metric: str, value: float) -> bool:
        if self.best is None or self.best["metric"] != metric:
            return True
        before = self.best["value"]
        return bool(value < before if metric in LOWER_IS_BETTER else value > before)
