"""Making tar shards of the WebDataset format, and the index of their images."""

import io
import itertools
import json
import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np
from fsspec.core import url_to_fs

from vje_pyro.atomic import make_folder, replacing, write_atomic
from vje_pyro.data.arrays import UNLABELLED
from vje_pyro.data.decoding import CorruptImage, image_suffixes
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.folders import ImageFolder
from vje_pyro.data.shards import ShardIndex, expand
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

CLASSES_NAME = "classes.txt"
"""A file beside the shards with a class name a line, in the order of the labels."""
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")  # key and suffix: what follows the first dot

_Sample = tuple[int, int, str | None]  # where the image begins, its bytes, its label


def pack_folder(
    folder: str | Path, root: str | Path, name: str = "train", per_shard: int = 1000, seed: int = 0
) -> ShardIndex:
    """Pack a folder of images into tar shards ``root/NAME-000000.tar`` …, and index ``root``.

    Files are copied as they are, in random order. Sample ``K`` has the members ``K.SUFFIX`` and,
    where the folder has classes, ``K.cls``. The class names are kept in ``root/classes.txt``; where
    that is there already, as it is when the test images follow the training images, its numbering
    is kept. Files that cannot be read are left out and named in the log, up to ten.

    Args:
        folder: Images in subfolders that are classes, or without.
        root: Folder for shards and index.
        name: What the shards' names begin with.
        per_shard: Images of a shard.
        seed: Of the order.

    Raises:
        DataError: If there is no image, more files than that cannot be read, the shards are there
            already, a class is not among those of ``classes.txt``, or ``per_shard`` is below 1.
    """
    if per_shard < 1:
        raise DataError(f"per_shard must be at least 1, got {per_shard}")
    root = Path(root)
    if next(root.glob(f"{name}-*.tar"), None) is not None:
        raise DataError(f"{root} has shards {name}-*.tar already: remove them, or set another name")
    make_folder(root)
    files = ImageFolder(str(folder)).split("pretrain")
    assert isinstance(files, ImageFiles)  # not in memory
    classes = _known_classes(str(root))
    if files.classes and not classes:
        classes = files.classes
        write_atomic(root / CLASSES_NAME, "".join(f"{c}\n" for c in classes))
    if unknown := [c for c in files.classes if c not in classes]:
        raise DataError(
            f"{folder} has the classes {unknown[:5]}, which {CLASSES_NAME} of {root} has not: pack "
            "the images with all classes first"
        )
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    for number, start in enumerate(range(0, len(order), per_shard)):
        with (
            replacing(root / f"{name}-{number:06d}.tar") as (file, _),
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for place, index in enumerate(order[start : start + per_shard], start):
                (content,) = files.contents([index])
                if isinstance(content, CorruptImage):
                    files.note_corrupt(index, content)
                    continue
                _add(tar, f"{place:09d}{Path(files.name(index)).suffix.lower()}", content)
                if files.labels[index] >= 0:
                    label = classes.index(files.classes[files.labels[index]])
                    _add(tar, f"{place:09d}.cls", str(label).encode())
    made = index_shards(root)
    save_index(made, root / "index.npz")
    return made


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
        pattern: Names of the shards relative to ``root``, with braces or wildcards.
        label_key: Key of the label in ``.json``.

    Raises:
        DataError: If there is no shard; one is absent, truncated or not a plain tar; a sample has
            no image; or some labels are numbers and some are names that have no number.
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
    labels, classes = _numbered([label for *_, label in samples], _known_classes(root))
    places = np.array([place for *place, _ in samples], np.int64).reshape(-1, 2)
    return ShardIndex(
        shards=np.array(names, str),
        starts=np.array(starts, np.int64),
        bytes=np.array(lengths, np.int64),
        offsets=places[:, 0],
        sizes=places[:, 1],
        labels=np.array(labels, np.int64),
        classes=np.array(classes, str),
    )


def save_index(index: ShardIndex, path: str | Path) -> None:
    """Write an index, a compressed ``.npz``, whole or not at all.

    Raises:
        WriteError: If the file cannot be written.
    """
    with replacing(Path(path)) as (file, _):
        np.savez_compressed(file, **index._asdict())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)  # without owner and time: the same folder gives the same bytes
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def _known_classes(root: str) -> tuple[str, ...]:
    """The names in ``root/classes.txt``; none where there is no such file."""
    try:
        text = url_to_fs(root)[0].cat_file(f"{root}/{CLASSES_NAME}").decode()
    except OSError:
        return ()
    return tuple(text.split("\n")[:-1])


def _shard_names(root: str, pattern: str) -> Iterator[str]:
    files, base = url_to_fs(root)
    for part in expand(pattern):
        found = [part]
        if any(c in part for c in "*?["):
            found = [str(path)[len(base) :].lstrip("/") for path in files.glob(f"{base}/{part}")]
        if not found:
            raise DataError(f"no shard {root}/{part} (where a server lists no files, use braces)")
        yield from sorted(found)


def _scan(path: str, label_key: str, samples: list[_Sample]) -> int:
    """Add the samples of a shard to a list; returns its length in bytes."""
    before = len(samples)
    try:
        with (
            url_to_fs(path)[0].open(path) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for key, members in itertools.groupby(_members(tar), itemgetter(0)):
                samples.append(_sample(tar, members, key, path, label_key))
            end, length = tar.offset, file.seek(0, io.SEEK_END)
        if end >= length:
            raise tarfile.ReadError("it has no end mark")
    except FileNotFoundError:
        raise DataError(f"missing shard {path}") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        if len(samples) > before:
            raise DataError(
                f"truncated shard {path}: {error}; its last whole sample is number "
                f"{len(samples) - before - 1}. Fetch it again"
            ) from None
        raise DataError(
            f"not a plain tar file: {path}: {error}. Compressed shards are not read: images are "
            "compressed already"
        ) from None
    return length


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    for member in iter(tar.next, None):
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
        name = _MEMBER.fullmatch(member.name)
        if name and member.isreg() and not name[1].startswith("__"):
            yield name[1], name[2].lower(), member


def _sample(
    tar: tarfile.TarFile,
    members: Iterator[tuple[str, str, tarfile.TarInfo]],
    key: str,
    path: str,
    label_key: str,
) -> _Sample:
    image: tarfile.TarInfo | None = None
    label: str | None = None
    for _, suffix, member in members:
        if image is None and f".{suffix}" in image_suffixes():
            image = member
        elif label is None and suffix in ("cls", "json"):
            content: IO[bytes] = tar.extractfile(member)  # type: ignore[assignment]  # regular
            label = _label(content.read(), suffix, label_key, f"{path}: {member.name}")
    if image is None:
        raise DataError(f"{path}: the sample {key!r} has no image, a member with the suffix of one")
    return image.offset_data, image.size, label


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
