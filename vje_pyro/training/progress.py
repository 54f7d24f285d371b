"""What the user sees while a run trains: a bar in a terminal, else a log line per epoch."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)


class Silence:
    """Shows nothing; the interface of the others."""

    def step(self) -> None:
        """One more step is done."""

    def interval(self, row: Mapping[str, float]) -> None:
        """A row of ``steps.csv`` is there (``loss``, ``images_per_second``)."""

    def epoch(self, row: Mapping[str, object], left: float) -> None:
        """A row of ``epochs.csv`` is there; about ``left`` seconds remain."""

    def close(self) -> None:
        """No more will come."""


class _Bar(Silence):
    def __init__(self, total: int, done: int, epochs: int, console: Console) -> None:
        self._epochs = epochs
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} images/s"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            "training", total=total, completed=done, epoch=f"–/{epochs}", loss="–", rate="–"
        )
        self._progress.start()

    def step(self) -> None:
        self._progress.advance(self._task)

    def interval(self, row: Mapping[str, float]) -> None:
        self._progress.update(
            self._task,
            epoch=f"{row['epoch']}/{self._epochs}",
            loss=f"{row['loss']:.4g}",
            rate=f"{row['images_per_second']:,.0f}",
        )

    def close(self) -> None:
        self._progress.stop()


class _Lines(Silence):
    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._rate: list[str] = []

    def interval(self, row: Mapping[str, float]) -> None:
        self._rate = [f"{row['images_per_second']:,.0f} images/s"]

    def epoch(self, row: Mapping[str, object], left: float) -> None:
        figures = [
            f"{name} {value:.4g}"
            for name, value in row.items()
            if isinstance(value, float) and name not in ("time", "peak_memory")
        ]
        words = ", ".join([*figures, *self._rate])
        duration = timedelta(seconds=round(left))
        logger.info("epoch %s/%s: %s, about %s left", row["epoch"], self._epochs, words, duration)


def make_progress(shown: bool, total: int, done: int, epochs: int) -> Silence:
    """A bar in a terminal, log lines elsewhere, nothing if not ``shown``."""
    if not shown:
        return Silence()
    console = Console(stderr=True)
    return _Bar(total, done, epochs, console) if console.is_terminal else _Lines(epochs)
