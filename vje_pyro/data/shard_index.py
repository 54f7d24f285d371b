"""Where the images of tar shards lie, and what their labels are: known before an image is read."""

import fnmatch
import io
import itertools
import json
import logging
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from vje_pyro.atomic import replacing
from vje_pyro.data.array_files import Arrays
from vje_pyro.data.arrays import UNLABELLED
from vje_pyro.data.decoding import image_suffixes
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

CLASSES_NAME = "classes.txt"
"""A file beside the shards with a class name a line, in the order of the labels."""
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")  # key and suffix: what follows the first dot

_Sample = tuple[int, int, str | None]  # where the image begins, its bytes, its label


class ShardIndex(NamedTuple):
    """Where the N images of S tar shards lie; what a ``.npz`` file beside the shards holds."""

    shards: NDArray[np.str_]  # (S,): names, relative to the folder
    starts: NDArray[np.int64]  # (S + 1,): number of each shard's first image, then N
    bytes: NDArray[np.int64]  # (S,): size of each shard
    offsets: NDArray[np.int64]  # (N,): where in its shard an image begins
    sizes: NDArray[np.int64]  # (N,): bytes of each image
    labels: NDArray[np.int64]  # (N,): -1 where there is none
    classes: NDArray[np.str_]  # names in the order of the labels; empty when unknown

    @classmethod
    def read(cls, path: str) -> "ShardIndex":
        """Read an index from a path or URL; :class:`DataError` if it is absent or damaged."""
        try:
            content = url_to_fs(path)[0].cat_file(path)
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                stored = Arrays(archive, len(content))
                index = cls(*(stored[name] for name in cls._fields))
            per_shard = {len(index.shards), len(index.bytes), len(index.starts) - 1}
            per_image = {len(index.offsets), len(index.sizes), len(index.labels), index.starts[-1]}
            if len(per_shard) > 1 or len(per_image) > 1 or (np.diff(index.starts) < 0).any():
                raise ValueError("its parts do not fit together")
        except Exception as error:  # of the file, the archive, its compression or the arrays
            why = f"{type(error).__name__}: {error}"
            raise DataError(
                f"no readable index of shards at {path} ({why}): make it with 'vje shards index "
                "FOLDER', or set data.index=FILE"
            ) from None
        return index

    def save(self, path: str | Path) -> None:
        """Write the index whole, or raise :class:`~vje_pyro.errors.WriteError`."""
        with replacing(Path(path)) as (file, _):
            np.savez_compressed(file, **self._asdict())

    def select(self, pattern: str) -> NDArray[np.int64]:
        """Numbers of the images of the shards that a pattern names (braces and wildcards).

        Raises:
            DataError: If a part of the pattern names no shard.
        """
        known, names = set(self.shards.tolist()), expand(pattern)
        found = {n: [n] if n in known else fnmatch.filter(self.shards, n) for n in names}
        if absent := [name for name, shards in found.items() if not shards]:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            raise DataError(
                f"the pattern {pattern!r} names {', '.join(absent[:3])}{more}, but the index has "
                f"no such shard; it has {', '.join(self.shards[:3])}, for example. Correct the "
                "pattern, or make the index again: vje shards index FOLDER"
            )
        chosen = np.isin(self.shards, [name for names in found.values() for name in names])
        return np.flatnonzero(np.repeat(chosen, np.diff(self.starts)))


def index_shards(
    root: str | Path, pattern: str = "**/*.tar", label_key: str = "label"
) -> ShardIndex:
    """Read the headers of plain tar shards and note where each image lies.

    A sample is a run of members whose names agree up to the first dot; the first that has the
    suffix of an image is its image. Its label is the content of the member ``.cls``, or what
    ``.json`` has under ``label_key``: a number, or the name of a class, numbered as in
    ``root/classes.txt`` or else by the alphabet.

    Args:
        root: Folder, or URL of a folder.
        pattern: Names of the shards relative to ``root`` (braces and wildcards).
        label_key: Key of the label in ``.json``.

    Raises:
        DataError: If there is no shard, one is not a whole plain tar, a sample has no image, or
            some labels are numbers and some are names that have no number.
    """
    root = str(root)
    names = list(_shard_names(root, pattern))
    samples: list[_Sample] = []
    starts, lengths = [0], []
    for name in names:
        length = _scan(f"{root}/{name}", label_key, samples)
        starts.append(len(samples))
        lengths.append(length)
        logger.info("%s: %d images (%d shards)", name, starts[-1] - starts[-2], len(names))
    labels, classes = _numbered([label for *_, label in samples], known_classes(root))
    offsets, sizes = np.array([place for *place, _ in samples], np.int64).reshape(-1, 2).T
    numbers = [np.array(x, np.int64) for x in (starts, lengths, offsets, sizes, labels)]
    return ShardIndex._make([np.array(names, str), *numbers, np.array(classes, str)])


def expand(pattern: str) -> list[str]:
    """Names or wildcards that a pattern stands for: braces, and parts joined by ``::``."""
    try:
        from braceexpand import braceexpand
    except ImportError:
        if "{" in pattern:
            raise DataError(f"braces in {pattern!r} need pip install 'vje-pyro[shards]'") from None
        return pattern.split("::")
    return [name for part in pattern.split("::") for name in braceexpand(part)]


def known_classes(root: str) -> tuple[str, ...]:
    """The names in ``root/classes.txt``; none where there is no such file."""
    with suppress(OSError):
        text: str = url_to_fs(root)[0].cat_file(f"{root}/{CLASSES_NAME}").decode()
        return tuple(text.split("\n")[:-1])
    return ()


def _shard_names(root: str, pattern: str) -> Iterator[str]:
    files, base = url_to_fs(root)
    for part in expand(pattern):
        found = [part]
        if any(c in part for c in "*?["):
            found = [str(path)[len(base) :].lstrip("/") for path in files.glob(f"{base}/{part}")]
        if not found:
            raise DataError(
                f"no shard {root}/{part} (use braces if the server does not list its files)"
            )
        yield from sorted(found)


def _scan(path: str, label_key: str, samples: list[_Sample]) -> int:
    """Add the samples of a shard to a list; returns its length in bytes."""
    before = len(samples)
    try:
        with (
            url_to_fs(path)[0].open(path) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for sample in _samples(tar, path, label_key):
                samples.append(sample)
            end, length = tar.offset, file.seek(0, io.SEEK_END)
        if end >= length:
            raise tarfile.ReadError("it has no end mark")
    except FileNotFoundError:
        raise DataError(f"missing shard {path}") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        whole = len(samples) - before
        what = (
            f"truncated shard {path}: {error}; its last complete sample is number {whole - 1}"
            if whole
            else f"not a plain tar file: {path}: {error}. Compressed shards are not read"
        )
        raise DataError(what) from None
    return length


def _samples(tar: tarfile.TarFile, path: str, label_key: str) -> Iterator[_Sample]:
    for key, members in itertools.groupby(_members(tar), itemgetter(0)):
        image, label = None, None
        for _, suffix, member in members:
            if image is None and f".{suffix}" in image_suffixes():
                image = member
            elif label is None and suffix in ("cls", "json"):
                content: IO[bytes] = tar.extractfile(member)  # type: ignore[assignment]  # regular
                label = _label(content.read(), suffix, label_key, f"{path}: {member.name}")
        if image is None:
            raise DataError(f"{path}: the sample {key!r} has no image, no member with its suffix")
        yield image.offset_data, image.size, label


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and member of all members that are files of a sample."""
    for member in iter(tar.next, None):
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
        name = _MEMBER.fullmatch(member.name)
        if name and member.isreg() and not name[1].startswith("__"):
            yield name[1], name[2].lower(), member


def _label(content: bytes, suffix: str, key: str, where: str) -> str | None:
    try:
        if suffix == "cls":
            return content.decode().strip()
        value = json.loads(content)
        return str(value[key]) if isinstance(value, dict) and value.get(key) is not None else None
    except ValueError as error:  # also of the encoding
        raise DataError(f"{where}: not a label: {error}") from None


def _numbered(
    labels: Sequence[str | None], classes: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    """Labels as numbers, and the names of the classes."""
    present = {label for label in labels if label is not None}
    numbers = {label for label in present if label.removeprefix("-").isdecimal()}
    if numbers == present:
        number = {label: int(label) for label in present}
        if classes and max(number.values(), default=0) >= len(classes):
            raise DataError(
                f"a label is {max(number.values())}, but {CLASSES_NAME} has only {len(classes)} "
                "classes"
            )
    else:
        classes = classes or tuple(sorted(present))
        number = {name: place for place, name in enumerate(classes)}
        if numbers or not present <= set(classes):
            odd = sorted(numbers or present - set(classes))
            raise DataError(
                f"labels must all be numbers or all be names of classes; found {odd[:5]} beside "
                f"{sorted(present - set(odd))[:5]}"
            )
    return [UNLABELLED if label is None else number[label] for label in labels], classes
