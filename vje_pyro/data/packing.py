"""Packing a folder of images into tar shards of the WebDataset format."""

import io
import tarfile
from pathlib import Path

import numpy as np

from vje_pyro.atomic import make_folder, replacing, write_atomic
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.folders import ImageFolder
from vje_pyro.data.shard_index import CLASSES_NAME, ShardIndex, index_shards, known_classes
from vje_pyro.errors import DataError


def pack_folder(
    folder: str | Path, root: str | Path, name: str = "train", per_shard: int = 1000, seed: int = 0
) -> ShardIndex:
    """Pack a folder of images into tar shards ``root/NAME-000000.tar`` …, and index ``root``.

    Files are copied as they are, in random order. Sample ``K`` has the members ``K.SUFFIX`` and,
    where the folder has classes, ``K.cls``. The class names are kept in ``root/classes.txt``; where
    that is there already, its numbering is kept. Up to ten files that cannot be read are left out.

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
    classes = known_classes(str(root))
    if files.classes and not classes:
        classes = files.classes
        write_atomic(root / CLASSES_NAME, "".join(f"{c}\n" for c in classes))
    if unknown := [c for c in files.classes if c not in classes]:
        raise DataError(
            f"{folder} has the classes {unknown[:5]}, which {CLASSES_NAME} of {root} does not "
            "have: pack the images with all classes first"
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
    made.save(root / "index.npz")
    return made


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)  # without owner and time: the same folder gives the same bytes
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
