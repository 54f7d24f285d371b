"""Folders of image files as data sources: ImageNet, and any folder a user has."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.model_selection import train_test_split

from vje_pyro.data.arrays import UNLABELLED
from vje_pyro.data.files import ImageFiles, list_images
from vje_pyro.data.sources import DataSource, Split
from vje_pyro.errors import DataError
from vje_pyro.ranges import (
    Channels,
    ImageSize,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageNet(DataSource):
    """ImageNet-1K, or a part of it, in the usual layout: ``train/CLASS/*`` and ``val/CLASS/*``.

    Images stay on disk. Evaluation takes the central 87.5 % of the shorter side.

    Args:
        root: Folder with ``train`` and ``val``.
        image_size: Height and width of crops and of evaluation images; null is 224.
        train_limit: Training images, class-balanced; null is all.
        test_limit: Validation images, class-balanced; null is all.
        max_corrupt: Damaged files that are skipped before giving up.

    Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
    """

    name = "imagenet"
    channels = 3
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    splits = {"pretrain": "train", "train": "train", "val": "val", "test": "val"}  # noqa: RUF012

    def __init__(
        self,
        root: str = "data/imagenet",
        image_size: ImageSize | None = None,
        train_limit: PositiveInt | None = None,
        test_limit: PositiveInt | None = None,
        max_corrupt: NonNegativeInt = 10,
    ) -> None:
        super().__init__(train_limit, test_limit)
        self.root = Path(root)
        self.image_size = image_size or 224
        self.max_corrupt = max_corrupt

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of class folders in ``train``."""
        return len(_classes(self._folder("train")))

    def _folder(self, stored: str) -> Path:
        folder = self.root / stored
        if not folder.is_dir():
            raise DataError(
                f"no {stored} split of ImageNet: {folder.absolute()} is not a folder. ImageNet "
                "cannot be downloaded without an account: unpack it as train/CLASS/*.JPEG and "
                "val/CLASS/*.JPEG and set data.root=FOLDER"
            )
        return folder

    def _load(self, stored: str) -> ImageFiles:
        return _image_files(
            self._folder(stored),
            _classes(self._folder("train")),
            image_size=self.image_size,
            crop_fraction=0.875,
            max_corrupt=self.max_corrupt,
        )


class ImageFolder(DataSource):
    """Any folder of images, of any size and mode.

    - ``root`` with a subfolder ``train`` or ``pretrain``: the splits are the subfolders
      ``pretrain`` (or ``unlabeled``), ``train``, ``val`` and ``test`` that exist; without
      ``pretrain``, ``train`` is used, and without ``test``, ``val``.
    - otherwise all images are one split, for ``pretrain`` and ``train``; with ``test_fraction`` a
      part of them, stratified by class (seed 0), is kept for ``test``.

    Inside a split, first-level subfolders are classes; images beside them, or a flat folder, are
    unlabelled.

    Args:
        root: The folder.
        image_size: Height and width of crops and of evaluation images (central square).
        channels: 3 (RGB) or 1 (grey).
        mean: Channel means for normalisation; null is ImageNet's.
        std: Channel standard deviations; null is ImageNet's.
        in_memory: Decode everything once, cut to the central square at ``image_size``.
        test_fraction: Share of the images to keep for ``test`` where there are no split folders.
        train_limit: Training images, class-balanced; null is all.
        test_limit: Test images, class-balanced; null is all.
        max_corrupt: Damaged files that are skipped before giving up.
    """

    name = "folder"

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 224,
        channels: Channels = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[PositiveFloat] | None = None,
        in_memory: bool = False,
        test_fraction: ProperFraction = 0.0,
        train_limit: PositiveInt | None = None,
        test_limit: PositiveInt | None = None,
        max_corrupt: NonNegativeInt = 10,
    ) -> None:
        super().__init__(train_limit, test_limit)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        if not 0 <= test_fraction < 1:
            raise ValueError(f"test_fraction must lie in [0, 1), got {test_fraction}")
        self.root = Path(root)
        self.image_size = image_size
        self.channels = channels
        self.mean = tuple(mean or IMAGENET_MEAN[:channels])
        self.std = tuple(std or IMAGENET_STD[:channels])
        self.in_memory = in_memory
        self.test_fraction = test_fraction
        self.max_corrupt = max_corrupt

    @property
    def splits(self) -> dict[str, str]:  # type: ignore[override]
        """Split names, and the subfolder (or share of the images) that each is read from."""
        if not self.root.is_dir():
            raise DataError(
                f"no such folder of images: {self.root.absolute()}; set data.root=FOLDER"
            )
        here = {n for n in ("pretrain", "unlabeled", "train", "val", "test") if self._has(n)}
        if not here & {"pretrain", "unlabeled", "train"}:
            parts = {"pretrain": ".train", "train": ".train"}
            return parts | ({"test": ".test"} if self.test_fraction else {})
        order = {"pretrain": ("pretrain", "unlabeled", "train"), "train": ("train",)}
        order |= {"val": ("val",), "test": ("test", "val")}
        found = {name: [f for f in folders if f in here] for name, folders in order.items()}
        return {name: folders[0] for name, folders in found.items() if folders}

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of class folders of the training split."""
        stored = self.splits.get("train", self.splits["pretrain"])
        return len(_classes(self.root if stored.startswith(".") else self.root / stored))

    def split(self, name: str) -> Split:
        """See ``DataSource.split``."""
        if name == "test" and name not in self.splits:
            raise DataError(
                f"{self.root.absolute()} has no test split: put the images in subfolders train and "
                "test, or set data.test_fraction=0.2 to keep a part of them"
            )
        return super().split(name)

    def _has(self, name: str) -> bool:
        return (self.root / name).is_dir()

    def _load(self, stored: str) -> Split:
        if stored.startswith("."):
            files = self._files(self.root, _classes(self.root))
            files = self._part(files, stored) if self.test_fraction else files
        else:
            labelled = self.splits.get("train", stored)
            files = self._files(self.root / stored, _classes(self.root / labelled))
        return files.load() if self.in_memory else files

    def _files(self, folder: Path, classes: tuple[str, ...]) -> ImageFiles:
        return _image_files(
            folder,
            classes,
            image_size=self.image_size,
            channels=self.channels,
            max_corrupt=self.max_corrupt,
        )

    def _part(self, files: ImageFiles, stored: str) -> ImageFiles:
        labels = files.labels.numpy()
        try:
            train, test = train_test_split(
                range(len(files)), test_size=self.test_fraction, stratify=labels, random_state=0
            )
        except ValueError as error:
            raise DataError(
                f"cannot keep test_fraction={self.test_fraction} of {len(files)} images in "
                f"{self.root} for testing: {error}"
            ) from None
        return files.subset(sorted(train if stored == ".train" else test))


def _classes(folder: Path) -> tuple[str, ...]:
    """Names of the subfolders, sorted; hidden ones are not classes."""
    with os.scandir(folder) as entries:
        return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))


def _image_files(
    folder: Path,
    classes: tuple[str, ...],
    *,
    image_size: int,
    channels: Channels = 3,
    crop_fraction: float = 1.0,
    max_corrupt: NonNegativeInt = 10,
) -> ImageFiles:
    """All images below ``folder``; labelled by the first subfolder if that is in ``classes``."""
    names = list_images(folder)
    number = {name: label for label, name in enumerate(classes)}
    labels = [number.get(name.split(os.sep, 1)[0], UNLABELLED) for name in names]
    return ImageFiles(
        folder,
        names,
        torch.tensor(labels, dtype=torch.int64),
        classes,
        image_size=image_size,
        channels=channels,
        crop_fraction=crop_fraction,
        max_corrupt=max_corrupt,
    )
