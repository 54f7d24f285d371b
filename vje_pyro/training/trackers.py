"""Trackers of experiments beside a run's own CSV files, by the loggers of Fabric and Lightning.

Each is imported when a run uses it. The addresses of servers come from the environment, as the
trackers themselves read them, and so never from a run directory, which may be a stranger's.
"""

import logging
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from vje_pyro.atomic import write_atomic
from vje_pyro.errors import VJEError, first_line
from vje_pyro.ranges import PositiveInt

logger = logging.getLogger(__name__)


class Tracker(ABC):
    """What the configuration group ``logger`` names."""

    @abstractmethod
    def open(self, directory: Path, resume_step: int | None) -> Logger:
        """The logger of a run.

        Args:
            directory: The run's ``logs`` directory.
            resume_step: The step that the run goes on from; None for a new run.
        """


class TensorBoard(Tracker):
    """Events in ``logs/tb``; after a resumption TensorBoard hides those that are written again.

    Args:
        flush_secs: Events are on the disk after so many seconds.

    Raises:
        VJEError: TensorBoard is not installed.
    """

    def __init__(self, flush_secs: PositiveInt = 10) -> None:
        _require("tensorboard")
        self.flush_secs = flush_secs

    def open(self, directory: Path, resume_step: int | None) -> Logger:
        """See :meth:`Tracker.open`."""
        from lightning_fabric.loggers import TensorBoardLogger

        purge = None if resume_step is None else resume_step + 1
        return TensorBoardLogger(
            directory, name="tb", version="", purge_step=purge, flush_secs=self.flush_secs
        )


class WeightsAndBiases(Tracker):
    """Weights & Biases; a resumed run goes on with its id, kept in ``logs/wandb.id``.

    ``WANDB_BASE_URL``, ``WANDB_API_KEY`` and the others of W&B's variables hold.

    Args:
        project: Project of the run.
        offline: Keep the run in ``logs/wandb``; ``wandb sync`` uploads it.

    Raises:
        VJEError: W&B or Lightning is not installed.
    """

    def __init__(self, project: str = "vje-pyro", offline: bool = False) -> None:
        _require("wandb", "pytorch_lightning")
        self.project, self.offline = project, offline

    def open(self, directory: Path, resume_step: int | None) -> Logger:
        """See :meth:`Tracker.open`."""
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        class Finishing(WandbLogger):
            def finalize(self, status: str) -> None:
                super().finalize(status)
                self.experiment.finish(exit_code=int(status != "success"))

        kept = directory / "wandb.id"
        run = _kept(kept, resume_step) or secrets.token_hex(4)
        write_atomic(kept, run.encode())
        return Finishing(
            name=_name(directory),
            project=self.project,
            save_dir=directory,
            id=run,
            mode="offline" if self.offline else None,
            settings=wandb.Settings(init_timeout=30),
        )


class MLflow(Tracker):
    """MLflow; a resumed run goes on with its id, kept in ``logs/mlflow.id``.

    ``MLFLOW_TRACKING_URI`` names the server; without it runs are files in ``logs/mlruns``.

    Args:
        experiment: Experiment of the run.

    Raises:
        VJEError: MLflow or Lightning is not installed.
    """

    def __init__(self, experiment: str = "vje-pyro") -> None:
        _require("mlflow", "pytorch_lightning")
        self.experiment = experiment

    def open(self, directory: Path, resume_step: int | None) -> Logger:
        """See :meth:`Tracker.open`."""
        # MLflow wants to be asked for files; and it tries a server for four minutes else, in which
        # the training would stand still.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from pytorch_lightning.loggers import MLFlowLogger

        kept = directory / "mlflow.id"
        log = MLFlowLogger(
            self.experiment,
            run_name=_name(directory),
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
            save_dir=str(directory.absolute() / "mlruns"),
            run_id=_kept(kept, resume_step),
        )
        write_atomic(kept, str(log.run_id).encode())
        return log


class Trackers:
    """The trackers of a run; one that fails is named in a warning and left alone from then on.

    Args:
        trackers: By their names.
        directory: The run's ``logs`` directory, existing.
        config: The run's configuration, which a new run tells them.
        resume_step: See :meth:`Tracker.open`.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        directory: Path,
        config: dict[str, Any],
        resume_step: int | None = None,
    ) -> None:
        self._logs: dict[str, Logger] = {}

        def start(name: str) -> None:
            self._logs[name] = trackers[name].open(directory, resume_step)
            if resume_step is None:
                self._logs[name].log_hyperparams(config)

        self._each(trackers, start)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Tell all of them numbers of a step."""
        self._each(self._logs, lambda name: self._logs[name].log_metrics(dict(numbers), step=step))

    def close(self, status: str) -> None:
        """Finish what they write; ``status`` is success or failed."""
        self._each(self._logs, lambda name: self._logs[name].finalize(status))

    def _each(self, names: Mapping[str, object], act: Callable[[str], None]) -> None:
        for name in list(names):
            try:
                act(name)
            except Exception as error:  # of any service: it is no reason to lose a training
                self._logs.pop(name, None)
                logger.warning(
                    "logger=%s fails and is told nothing more of this run, which goes on: %s. "
                    "logs/steps.csv and logs/epochs.csv have everything.", name, first_line(error)
                )  # fmt: skip


def _require(extra: str, *others: str) -> None:
    for package in (extra, *others):
        if find_spec(package) is None:
            raise VJEError(
                f"logger={extra} needs {package}, which is not installed: pip install "
                f"'vje-pyro[{extra}]', or choose another logger."
            )


def _name(logs: Path) -> str:
    """Name of a run: the last two parts of its directory."""
    return "/".join(logs.absolute().parent.parts[-2:])


def _kept(path: Path, resume_step: int | None) -> str | None:
    """The id that a run has with a tracker."""
    return path.read_text().strip() if resume_step is not None and path.is_file() else None
