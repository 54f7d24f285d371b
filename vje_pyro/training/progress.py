"""What the user sees while a run trains: a bar in a terminal, else a log line per epoch."""

import logging
from collections.abc import Mapping

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


class Bar(Silence):
    """A progress bar with epoch, loss, images per second and time left."""

    def __init__(self, total: int, done: int, epochs: int, console: Console) -> None:
        self._epochs = epochs
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} images/s"),
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
        """Advance by one."""
        self._progress.advance(self._task)

    def interval(self, row: Mapping[str, float]) -> None:
        """Refresh the figures beside the bar."""
        self._progress.update(
            self._task,
            epoch=f"{row['epoch']}/{self._epochs}",
            loss=f"{row['loss']:.4g}",
            rate=f"{row['images_per_second']:,.0f}",
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class Lines(Silence):
    """A log line per epoch."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._rate: float | None = None

    def interval(self, row: Mapping[str, float]) -> None:
        """Keep the rate for the next line."""
        self._rate = row["images_per_second"]

    def epoch(self, row: Mapping[str, object], left: float) -> None:
        """Log the epoch's figures."""
        figures = [
            f"{name} {value:.4g}"
            for name, value in row.items()
            if isinstance(value, float) and name not in ("time", "peak_memory")
        ]
        if self._rate is not None:
            figures.append(f"{self._rate:,.0f} images/s")
        logger.info(
            "epoch %s/%s: %s, about %s left",
            row["epoch"],
            self._epochs,
            ", ".join(figures),
            _duration(left),
        )


def make_progress(shown: bool, total: int, done: int, epochs: int) -> Silence:
    """A bar in a terminal, log lines elsewhere, nothing if not ``shown``."""
    if not shown:
        return Silence()
    console = Console(stderr=True)
    return Bar(total, done, epochs, console) if console.is_terminal else Lines(epochs)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
