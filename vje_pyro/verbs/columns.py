"""Columns of figures by image, as a file: npz, parquet or CSV, by its ending."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.data.decoding import printable
from vje_pyro.errors import VJEError

Columns = Mapping[str, np.ndarray]
"""Columns by name, each ``(N, …)``; strings are names of files."""


def check_columns(out: Path, formats: Sequence[str]) -> None:
    """Refuse a file that :func:`write_columns` could not write, before the work is done.

    Raises:
        VJEError: It ends otherwise, or in ``.parquet`` and pyarrow is not installed.
    """
    if out.suffix not in formats:
        raise VJEError(f"cannot write {out}: the file must end in one of {tuple(formats)}.")
    if out.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            others = " or ".join(suffix for suffix in formats if suffix != ".parquet")
            raise VJEError(
                "writing parquet needs pyarrow: pip install 'vje-pyro[parquet]', or write "
                f"{others}."
            ) from error


def write_columns(out: Path, columns: Columns) -> Path:
    """Write columns, all or nothing; the folder is made if need be."""
    writers: dict[str, Callable[[Columns], bytes | str]]
    writers = {".npz": _npz, ".parquet": _parquet, ".csv": _csv}
    make_folder(out.parent)
    write_atomic(out, writers[out.suffix](columns))
    return out


def _npz(columns: Columns) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _parquet(columns: Columns) -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({k: list(v) if v.ndim > 1 else _text(v) for k, v in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def _csv(columns: Columns) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_text(column).tolist() for column in columns.values()), strict=True))
    return buffer.getvalue()


def _text(column: np.ndarray) -> np.ndarray:
    """Names as text that any program reads."""
    return np.array([printable(x) for x in column.tolist()]) if column.dtype.kind == "U" else column
