"""Out-of-distribution sets, brought to a run's images in the way of the run's own data.

A set that was decoded, resized or compressed differently can be recognised by this alone: the sets
of a run on arrays are arrays, those of a run on image files are folders.
"""

import os
from pathlib import Path
from typing import Any

import torch

from vje_pyro.data.arrays import ImageArray, convert_channels, pixel_tensor, resize_images
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.folders import ImageFolder
from vje_pyro.data.given import folder_files, load_images
from vje_pyro.data.searching import search_folder
from vje_pyro.data.sources import DataSource
from vje_pyro.data.torchvision_sources import CIFAR10, CIFAR100, STL10, SVHN, FashionMNIST
from vje_pyro.errors import DataError

SOURCES: dict[str, type[Any]] = {s.name: s for s in (CIFAR10, CIFAR100, FashionMNIST, STL10, SVHN)}
"""Sets whose test split torchvision reads; ``dtd`` is one more."""


def list_outliers(root: str | Path) -> list[str]:
    """Names of the sets ``ROOT/ood/NAME.npz``, sorted; :class:`DataError` if there is none."""
    names = sorted(path.stem for path in (Path(root) / "ood").glob("*.npz"))
    if not names:
        raise DataError(
            f"no out-of-distribution set in {(Path(root) / 'ood').absolute()}: put NAME.npz with "
            f"an array of images there, or name a set of torchvision with --out "
            f"({', '.join([*SOURCES, 'dtd'])})."
        )
    return names


def read_outliers(name: str, root: str | Path, source: DataSource) -> ImageArray | ImageFiles:
    """Read a set, and bring it to the size and channels of a run's data.

    Args:
        name: Of a file ``ROOT/ood/NAME.npz`` (array ``x`` or ``images``), of a set of torchvision
            in ``ROOT`` (``SOURCES``, ``dtd``), or a folder of images.
        root: Folder of data sets.
        source: The run's data.

    Raises:
        DataError: If there is no such set, it is damaged, or it would be decoded otherwise than
            the run's data.
    """
    folder, file = os.path.isdir(name), Path(root) / "ood" / f"{name}.npz"
    if isinstance(source, ImageFolder):
        if not folder:
            raise DataError(
                f"{source.name} is read from image files, and an out-of-distribution set must be "
                f"decoded like it: name a folder of images, not {name!r}."
            )
        return _folder(name, source)
    if folder:
        raise DataError(
            f"{source.name} is not read from image files, so a score could recognise {name} by its "
            f"decoding: save its images, at their native size, as ROOT/ood/NAME.npz."
        )
    if file.is_file():
        size, channels = source.image_size, source.channels
        return load_images(file, size, channels, value_range=source.value_range)[0]
    if name == "dtd":
        return _dtd(root, source)
    if name not in SOURCES:
        raise DataError(
            f"no out-of-distribution set {name!r}: there is no {file.absolute()}, and it is not "
            f"one of {', '.join([*SOURCES, 'dtd'])}."
        )
    whole = SOURCES[name](root).split("test")
    return ImageArray(_like(whole.images, source), whole.labels, whole.classes)


def _like(images: torch.Tensor, source: DataSource) -> torch.Tensor:
    return resize_images(convert_channels(images, source.channels), source.image_size)


def _folder(name: str, source: ImageFolder) -> ImageArray | ImageFiles:
    decoding = source.decoding() | {"value_range": source.find_value_range()}
    files = folder_files(name, search_folder(name, source.max_corrupt).images(), **decoding)
    return files.load() if source.in_memory else files


def _dtd(root: str | Path, source: DataSource) -> ImageArray:
    """Describable textures (Cimpoi et al., CVPR 2014): 1,880 test photographs of any size."""
    from torchvision import datasets

    try:
        textures = datasets.DTD(root, split="test", download=False)
        images = [_like(pixel_tensor(image)[None], source) for image, _ in textures]
        labels = torch.tensor([label for _, label in textures], dtype=torch.int64)
    except Exception as error:  # of the set, or the decoder of a picture
        raise DataError(f"cannot read DTD in {Path(root).absolute()}: {error}") from error
    return ImageArray(torch.cat(images), labels, tuple(textures.classes))
