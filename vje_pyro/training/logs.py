"""Logs of a run: CSV files, and trackers of experiments."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt

from vje_pyro.atomic import open_to_append, write_atomic
from vje_pyro.errors import WriteError
from vje_pyro.reading import damaged, read_csv, validate
from vje_pyro.training.trackers import Trackers

Row = Mapping[str, Any]


class CsvLog:
    """A CSV file with a ``step`` column; each row is on its way to the disk once written.

    Args:
        path: The file.
        resume_step: Rows after this step are cut off, as is a line that a killed process left
            unfinished. None starts a new file.

    Raises:
        CheckpointError: The file that is to be gone on with is damaged, or cannot be written.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self._path = path
        self._columns: list[str] = []
        if path.exists():
            self._rewrite([] if resume_step is None else _rows_until(path, resume_step))

    def write(self, row: Row) -> None:
        """Append ``row``, and columns not seen before; WriteError if the file cannot be written."""
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
        raise damaged(path, error, "Move it away to continue without it.") from error
    return [row for row, at in zip(rows, steps, strict=True) if at <= step]


def _format(rows: Sequence[Row], columns: list[str], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header and columns:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class RunLogs:
    """``steps.csv`` and ``epochs.csv`` of a run, and trackers beside them.

    Args:
        directory: The run's ``logs`` directory, existing.
        resume_step: See :class:`CsvLog`.
        trackers: Told the finite numbers of a row as ``step/<name>`` or ``epoch/<name>``.
    """

    def __init__(
        self, directory: Path, resume_step: int | None = None, trackers: Trackers | None = None
    ) -> None:
        self._files = {
            group: CsvLog(directory / f"{group}s.csv", resume_step) for group in ("step", "epoch")
        }
        self._trackers = trackers or Trackers({}, directory, {})

    def write(self, group: Literal["step", "epoch"], row: Row) -> None:
        """Write means over an interval of steps, or the figures of an epoch."""
        self._files[group].write(row)
        numbers = {
            f"{group}/{name}": value
            for name, value in row.items()
            if name not in ("step", "epoch") and isinstance(value, int | float)
            if math.isfinite(value)
        }
        self._trackers.write(numbers, row["step"])

    def close(self, status: Literal["success", "failed"]) -> None:
        """Finish what the trackers write."""
        self._trackers.close(status)
