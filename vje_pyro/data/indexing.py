"""The index of tar shards, made by reading their headers once."""

import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vje_pyro.data.arrays import UNLABELLED
from vje_pyro.data.decoding import image_suffixes
from vje_pyro.data.shard_index import ShardIndex, expand
from vje_pyro.data.shards import exit_status, is_remote, join, open_stream, webdataset
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

CLASSES_NAME = "classes.txt"
"""A file beside the shards with a class name a line, in the order of the labels."""


@dataclass
class _Found:
    """A sample of a shard: members of one name that differ in what follows its first dot."""

    key: str
    offset: int = -1
    size: int = 0
    label: str | None = None


def index_shards(
    root: str | Path, pattern: str = "**/*.tar", label_key: str = "label"
) -> ShardIndex:
    """Read the headers of plain tar shards and note where each image lies.

    A sample is a run of members whose names agree up to the first dot; the first that has the
    suffix of an image is its image. Its label is the content of the member ``.cls``, or what
    ``.json`` has under ``label_key``: a number, or the name of a class. Names are numbered as in
    ``root/classes.txt``, or by the alphabet where that is not there.

    Args:
        root: Folder, or URL of a folder.
        pattern: Names of the shards relative to ``root``, with braces or wildcards; behind a URL
            without wildcards.
        label_key: Key of the label in ``.json``.

    Raises:
        DataError: If there is no shard; one is absent, truncated or not a plain tar; a sample has
            no image; or some labels are numbers and some are names that have no number.
    """
    names = _shard_names(str(root), pattern)
    samples: list[_Found] = []
    starts, lengths = [0], []
    for number, name in enumerate(names):
        found, length = _scan(join(str(root), name), label_key)
        samples += found
        starts.append(len(samples))
        lengths.append(length)
        logger.info("%s: %d images (%d of %d shards)", name, len(found), number + 1, len(names))
    labels, classes = _numbered([s.label for s in samples], known_classes(root))
    places = np.array([(s.offset, s.size) for s in samples], np.int64).reshape(-1, 2)
    return ShardIndex(
        root=str(root),
        shards=tuple(names),
        starts=np.array(starts, np.int64),
        bytes=np.array(lengths, np.int64),
        offsets=places[:, 0],
        sizes=places[:, 1],
        labels=np.array(labels, np.int64),
        classes=classes,
    )


def known_classes(root: str | Path) -> tuple[str, ...]:
    """The names in ``root/classes.txt``; none where there is no such file."""
    path = Path(root) / CLASSES_NAME
    if is_remote(root) or not path.is_file():
        return ()
    return tuple(path.read_text(encoding="utf-8").split("\n")[:-1])


def _shard_names(root: str, pattern: str) -> list[str]:
    names: list[str] = []
    for part in expand(pattern):
        if is_remote(root) or is_remote(part) or not any(c in part for c in "*?["):
            names.append(part)
        else:
            paths = sorted(p for p in Path(root).glob(part) if p.is_file())
            names += [path.relative_to(root).as_posix() for path in paths]
    if is_remote(root) and any(c in name for name in names for c in "*?["):
        raise DataError(f"a URL has no wildcards: name the shards of {root} with braces, as in "
                        "'train-{000000..001281}.tar'")  # fmt: skip
    if not names:
        raise DataError(f"no shard {pattern} in {Path(root).absolute()}")
    return list(dict.fromkeys(names))


class _Counted:
    """A binary stream that counts its bytes."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.count = stream, 0

    def read(self, size: int) -> bytes:
        """Read on."""
        content: bytes = self.stream.read(size)
        self.count += len(content)
        return content


def _scan(location: str, label_key: str) -> tuple[list[_Found], int]:
    """The samples of a shard, and its length."""
    samples: list[_Found] = []
    if not is_remote(location) and not Path(location).is_file():
        raise DataError(f"missing shard {Path(location).absolute()}")
    with open_stream(location) if is_remote(location) else open(location, "rb") as stream:
        counted = _Counted(stream)
        mode = "r|" if is_remote(location) else "r:"
        try:
            with tarfile.open(fileobj=counted if mode == "r|" else stream, mode=mode) as tar:  # type: ignore[call-overload]
                for sample in _grouped(tar, location, label_key):
                    samples.append(sample)
                ended = tar.offset
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _unreadable(location, samples, error, stream) from None
        while counted.read(1 << 20):  # to the end, so that the program behind it ends well
            pass
        length = counted.count if mode == "r|" else stream.tell()
    if ended >= length:
        raise _unreadable(location, samples, "it has no end mark", stream)
    return samples, length


def _unreadable(
    location: str, samples: Sequence[_Found], error: Exception | str, stream: Any
) -> DataError:
    if samples:
        return DataError(
            f"truncated shard {location}: {error}; its last whole sample is number "
            f"{len(samples) - 1}, {samples[-1].key!r}. Fetch it again"
        )
    status = exit_status(stream)
    return DataError(
        f"not a plain tar file: {location}: {error}{f' ({status})' if status else ''}. Compressed "
        "shards are not read: images are compressed already"
    )


def _grouped(tar: tarfile.TarFile, location: str, label_key: str) -> Iterator[_Found]:
    split_name = webdataset("tariterators").base_plus_ext
    suffixes = image_suffixes()
    current: _Found | None = None
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
        key, suffix = split_name(member.name) if member.isreg() else (None, None)
        if key is None or key.startswith("__"):
            continue
        if current is None or key != current.key:
            if current is not None:
                yield _complete(current, location)
            current = _Found(key)
        if f".{str(suffix).lower()}" in suffixes and current.offset < 0:
            current.offset, current.size = member.offset_data, member.size
        elif suffix in ("cls", "json"):
            label = _label(_content(tar, member), suffix, label_key, f"{location}: {member.name}")
            current.label = label if current.label is None else current.label
    if current is not None:
        yield _complete(current, location)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # a regular member
    return file.read()


def _complete(sample: _Found, location: str) -> _Found:
    if sample.offset < 0:
        raise DataError(
            f"{location}: the sample {sample.key!r} has no image (a member with one of the "
            f"suffixes {' '.join(sorted(image_suffixes()))})"
        )
    return sample


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
            raise DataError(f"a label is {max(number.values())}, but {CLASSES_NAME} has only "
                            f"{len(classes)} classes")  # fmt: skip
    else:
        classes = classes or tuple(sorted(present))
        number = {name: place for place, name in enumerate(classes)}
        if numbers or not present <= set(classes):
            odd = sorted(numbers or present - set(classes))
            raise DataError(f"labels must all be numbers or all be names of classes; found "
                            f"{odd[:5]} beside {sorted(present - set(odd))[:5]}")  # fmt: skip
    return [UNLABELLED if label is None else number[label] for label in labels], classes
