"""Logs of a run: CSV files, and TensorBoard where it is installed."""

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from vje_pyro.atomic import open_to_append, write_atomic
from vje_pyro.errors import WriteError
from vje_pyro.reading import damaged, read_csv, validate

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


class CsvLog:
    """A CSV file with a ``step`` column; each row is on its way to the disk once written.

    Args:
        path: The file.
        resume_step: Rows after this step are cut off (they will be written again), as is a line
            that a killed process left unfinished. None starts a new file.

    Raises:
        CheckpointError: The file that is to be gone on with is damaged, or cannot be written.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self._path = path
        self._columns: list[str] = []
        if path.exists():
            self._rewrite([] if resume_step is None else _rows_until(path, resume_step))

    def write(self, row: Row) -> None:
        """Append ``row``; a column not seen before is added to the file.

        Raises:
            WriteError: The file cannot be written.
        """
        new = [name for name in row if name not in self._columns]
        if new:
            rows = read_csv(self._path) if self._path.exists() else []
            self._rewrite([*rows, row], [*self._columns, *new])
            return
        try:
            with open_to_append(self._path) as file:
                file.write(_format([row], self._columns))
        except OSError as error:
            raise WriteError(
                f"Cannot write {self._path}: {error.strerror or error}. Free some space, then "
                "resume the run."
            ) from error

    def _rewrite(self, rows: Sequence[Row], columns: list[str] | None = None) -> None:
        self._columns = columns or (list(rows[0]) if rows else [])
        write_atomic(self._path, _format(rows, self._columns, header=True).encode())


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    rows = read_csv(path)
    try:
        steps = validate(list[NonNegativeInt], [row.get("step") for row in rows])
    except ValueError as error:
        raise damaged(path, error, "Move it away to go on without it.") from error
    return [row for row, at in zip(rows, steps, strict=True) if at <= step]


def _format(rows: Sequence[Row], columns: list[str], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header and columns:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class TensorBoardLog:
    """Scalars for TensorBoard.

    Args:
        directory: Where the event files go.
        resume_step: Events after this step are hidden by TensorBoard.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, directory: Path, resume_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(directory), purge_step=purge)

    def write(self, group: str, row: Row) -> None:
        """Write the finite numbers of ``row`` as ``group/<name>`` at ``row["step"]``."""
        for name, value in row.items():
            if name not in ("step", "epoch") and _is_number(value):
                self._writer.add_scalar(f"{group}/{name}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._writer.close()


class RunLogs:
    """``steps.csv``, ``epochs.csv`` and TensorBoard events of a run.

    Args:
        directory: The run's ``logs`` directory, existing.
        resume_step: See :class:`CsvLog`.
        tensorboard: Also write TensorBoard events, if it is installed.
    """

    def __init__(
        self, directory: Path, resume_step: int | None = None, tensorboard: bool = True
    ) -> None:
        self._steps = CsvLog(directory / "steps.csv", resume_step)
        self._epochs = CsvLog(directory / "epochs.csv", resume_step)
        self._tensorboard = _tensorboard(directory / "tb", resume_step) if tensorboard else None

    def step(self, row: Row) -> None:
        """Write means over an interval of steps."""
        self._write(self._steps, "step", row)

    def epoch(self, row: Row) -> None:
        """Write the figures of an epoch."""
        self._write(self._epochs, "epoch", row)

    def close(self) -> None:
        """Finish the files."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _write(self, log: CsvLog, group: str, row: Row) -> None:
        log.write(row)
        if self._tensorboard is not None:
            self._tensorboard.write(group, row)


def _tensorboard(directory: Path, resume_step: int | None) -> TensorBoardLog | None:
    try:
        return TensorBoardLog(directory, resume_step)
    except ImportError:
        logger.info("TensorBoard is not installed: logs go to CSV only (extra: tensorboard)")
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
