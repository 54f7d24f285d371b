"""Files of a run as they are found: read whole and checked against a schema, or refused.

Whatever is wrong with a file, and whatever the library below makes of it, the error is a
:class:`~vje_pyro.errors.CheckpointError` that names the file and the way out.
"""

import csv
import io
import json
import stat
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vje_pyro.errors import CheckpointError

MAX_BYTES = 1 << 28
"""The largest file that is read, and the most that it may unpack to; a run's are far smaller."""

MAX_DEPTH = 32
"""How deep lists and mappings may be nested; configurations have less than ten levels."""

T = TypeVar("T")


@dataclass(frozen=True)
class JsonFormat(Generic[T]):
    """A kind of JSON file.

    Args:
        content: Type of the content, as pydantic reads annotations.
        missing: What to say where there is no file; ``{path}`` and ``{folder}`` are filled in.
        advice: What to do about one that is damaged.
        schema: What its key ``schema`` must say and be left out of the content; None without.
        version: The same of ``schema_version``.
    """

    content: type[T]
    missing: str
    advice: str
    schema: str | None = None
    version: int | None = None

    def read(self, path: Path) -> T:
        """The content of a file; CheckpointError if it is missing, damaged, or another kind."""
        missing = self.missing.format(path=path, folder=path.parent)
        value = load_json(path, self.advice, missing)
        try:
            if self.schema is not None:
                value = self._unwrapped(value)
            return validate(self.content, value)
        except ValueError as error:
            raise damaged(path, error, self.advice) from error

    def _unwrapped(self, value: Any) -> dict[str, Any]:
        content = validate(dict[str, Any], value)
        found = content.pop("schema", None), content.pop("schema_version", None)
        if found != (self.schema, self.version) or isinstance(found[1], bool):
            raise ValueError(
                f"expected schema {self.schema!r} version {self.version}, found {found[0]!r} "
                f"version {found[1]!r}"
            )
        return content


def validate(content: Any, value: Any) -> Any:
    """``value`` as the type ``content``; ValueError, with each place, if it is not of that type."""
    try:
        return _adapter(content).validate_python(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        named = [f"{'.'.join(map(str, e['loc'])) or 'content'}: {e['msg']}" for e in problems[:5]]
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("; ".join(named) + more) from error


def load_json(path: Path, advice: str, missing: str = "") -> Any:
    """The value of any JSON file; arguments and errors as of :class:`JsonFormat`."""
    data = read_bytes(path, missing)
    try:
        return parse_json(data)
    except ValueError as error:
        raise damaged(path, error, advice) from error


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8 of unique keys and moderate nesting; else ValueError."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON file ({error})") from error
    _check_depth(value)
    return value


def read_csv(path: Path, keep_unfinished: bool = False) -> list[dict[str, str]]:
    """Rows of a CSV file by the names of its first line, as text; CheckpointError if it is damaged.

    ``keep_unfinished`` reads a last line that does not end as far as it goes.
    """
    try:
        text = read_bytes(path).decode()
        if text.startswith("\ufeff"):
            raise ValueError("it begins with a byte order mark")
        whole = text if keep_unfinished else text[: text.rfind("\n") + 1]
        names, *rows = csv.reader(io.StringIO(whole, newline=""), strict=True) if whole else [[]]
        if len(set(names)) < len(names):
            raise ValueError(f"a column occurs twice in {names}")
        for number, row in enumerate(rows, start=2):
            cut = keep_unfinished and number == len(rows) + 1 and not text.endswith("\n")
            if len(row) != len(names) and not (cut and len(row) < len(names)):
                raise ValueError(f"{len(row)} values for {len(names)} columns in line {number}")
        return [dict(zip(names, row, strict=False)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise damaged(path, error, "Move it away to continue without it.") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file; CheckpointError if it is missing or damaged."""
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zip, zlib and NumPy have errors of many kinds
        raise damaged(path, error, "Repeat the command that wrote it.") from error


def read_bytes(path: Path, missing: str = "", limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        CheckpointError: There is none (in the words of ``missing``), or it cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # one would wait for a pipe forever
            raise CheckpointError(f"{path} is not a file.")
        if found.st_size > limit:
            raise CheckpointError(
                f"{path} has {found.st_size:,} bytes: too large for a file of a run."
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(missing or f"{path} does not exist.") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}.") from error


def damaged(path: Path, error: Exception, advice: str) -> CheckpointError:
    """The error for a file whose content is not what was written."""
    return CheckpointError(f"{path} is damaged: {str(error) or type(error).__name__}. {advice}")


@cache
def _adapter(content: Any) -> TypeAdapter[Any]:
    return TypeAdapter(content)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} occurs twice")
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        groups = [list(node.values()) if isinstance(node, dict) else node for node in level]
        level = [child for group in groups if isinstance(group, list) for child in group]
    if level:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
