"""Folders of image files as data sources: ImageNet, and any folder a user has."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from vje_pyro.data.arrays import UNLABELLED
from vje_pyro.data.decoding import printable
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.layout import Tree, role_of, split_folders
from vje_pyro.data.searching import Found, below, search_folder
from vje_pyro.data.sources import FileSource, Split
from vje_pyro.data.value_ranges import ValueRange
from vje_pyro.errors import DataError
from vje_pyro.ranges import ImageSize, ProperFraction


@dataclass(eq=False, repr=False)
class ImageFolder(FileSource):
    """Any folder of images, of any size and mode.

    - Subfolders named like splits (``train`` and ``test``, ``Training`` and ``Testing``, …) are the
      splits ``pretrain``, ``train``, ``val`` and ``test``; without ``pretrain``, ``train`` is used,
      and without ``test``, ``val``.
    - Otherwise all images are one split, for ``pretrain`` and ``train``; with ``test_fraction`` a
      part of them, stratified by class (seed 0), is kept for ``test``.

    Inside a split, first-level subfolders that hold images are classes; images beside them are
    unlabelled. ``docs/how-to/data.md`` says which files are skipped and which layouts are refused.
    ``value_range=null`` finds the range from the images to pretrain on.

    Args:
        root: The folder.
        in_memory: Decode everything once, cut to the central square at ``image_size``.
        layout: ``auto``, or what the subfolders are: ``splits`` or ``classes``.
        test_fraction: Share of the images to keep for ``test`` where there are no split folders.
    """

    root: str | Path
    in_memory: bool = False
    layout: Literal["auto", "splits", "classes"] = "auto"
    test_fraction: ProperFraction = 0.0

    name = "folder"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = Path(self.root)

    @cached_property
    def _found(self) -> Found:
        if not os.path.isdir(self.root):
            shown = printable(str(Path(self.root).absolute()))
            raise DataError(f"no such folder of images: {shown}; set data.root=FOLDER")
        return search_folder(self.root, self.max_corrupt)

    @cached_property
    def _split_folders(self) -> dict[str, str]:
        return split_folders(str(self.root), self._found.names, self.layout)

    @cached_property
    def splits(self) -> Mapping[str, str]:  # type: ignore[override]
        """Split names, and the subfolder (or share of the images) that each is read from."""
        here = self._split_folders
        if not here:
            parts = {"pretrain": ".train", "train": ".train"}
            return parts | ({"test": ".test"} if self.test_fraction else {})
        order = {"pretrain": ("pretrain", "train"), "train": ("train",)}
        order |= {"val": ("val",), "test": ("test", "val")}
        found = {
            name: [here[role] for role in roles if role in here] for name, roles in order.items()
        }
        return {name: folders[0] for name, folders in found.items() if folders}

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of class folders of the training split."""
        return len(_classes(self._names(self.splits.get("train", self.splits["pretrain"]))))

    def split(self, name: str) -> Split:
        """See ``DataSource.split``."""
        if name == "test" and name not in self.splits:
            way_out = (
                "put the images for it in a folder test beside train"
                if self._split_folders
                else "put the images in subfolders train and test, or set data.test_fraction=0.2 "
                "to keep a part of them"
            )
            shown = printable(str(Path(self.root).absolute()))
            raise DataError(f"{shown} has no test split: {way_out}")
        return super().split(name)

    def find_value_range(self) -> ValueRange | None:
        """See ``DataSource.find_value_range``."""
        return self._value_range

    @cached_property
    def _value_range(self) -> ValueRange | None:
        return self.value_range or self._files(self.splits["pretrain"]).find_value_range()

    def describe(self) -> list[str]:
        """See ``DataSource.describe``."""
        names = {stored: name for name, stored in self.splits.items()}
        lines = [
            f"{name}: {_contents(self._files(stored))}"
            + ("" if stored.startswith(".") else f", in {printable(stored)}")
            for stored, name in names.items()
        ]
        if value_range := self.find_value_range():
            black, white = value_range
            lines.append(f"grey values of more than 8 bits: {black:g} is black, {white:g} is white")
        tree = Tree.of(self._found.names)
        over = "; ".join(filter(None, (*self._beside_splits(tree), self._found.passed_over())))
        return [*lines, *self._doubts(tree), *([f"passed over: {over}"] if over else [])]

    def _doubts(self, tree: Tree) -> Iterator[str]:
        """What was understood, and may have been meant otherwise."""
        if self._split_folders:
            if self.test_fraction:
                yield f"test_fraction={self.test_fraction} has no effect: there are split folders"
            return
        for name in filter(role_of, tree.folders):
            yield f"{printable(name)} is a class here, not a split"
        for name, folder in tree.folders.items():
            if folder.folders and folder.total == tree.total:
                yield f"all images are in {printable(name)}: are its subfolders the classes?"

    def _beside_splits(self, tree: Tree) -> Iterator[str]:
        tops = {folder.split(os.sep)[0] for folder in self._split_folders.values()}
        if not tops:
            return
        for name, folder in tree.folders.items():
            if name not in tops:
                yield f"{printable(name)} ({folder.total} images), which is no split"
        if tree.files:
            yield f"{tree.files} images beside the splits"

    def _load(self, stored: str) -> Split:
        files = self._files(stored)
        files.value_range = self.find_value_range()
        return files.load() if self.in_memory else files

    def _names(self, stored: str) -> list[str]:
        if not stored.startswith("."):
            return below(self._found.names, stored)
        try:
            return self._found.images()
        except DataError as error:
            raise DataError(f"{error}; set data.root=FOLDER") from None

    def _files(self, stored: str) -> ImageFiles:
        """Images of a stored split, labelled by the first subfolder."""
        names = self._names(stored)
        classes = _classes(self._names(self.splits.get("train", stored)))
        number = {name: label for label, name in enumerate(classes)}
        files = ImageFiles(
            self.root if stored.startswith(".") else Path(self.root) / stored,
            names,
            torch.tensor([number.get(name.split(os.sep, 1)[0], UNLABELLED) for name in names]),
            tuple(printable(name) for name in classes),
            **self.decoding(),
        )
        return self._part(files, stored) if stored.startswith(".") else files

    def _part(self, files: ImageFiles, stored: str) -> ImageFiles:
        if not self.test_fraction:
            return files
        labels = files.labels.numpy()
        try:
            from sklearn.model_selection import train_test_split

            train, test = train_test_split(
                range(len(files)), test_size=self.test_fraction, stratify=labels, random_state=0
            )
        except ValueError as error:
            raise DataError(
                f"cannot keep test_fraction={self.test_fraction} of {len(files)} images in "
                f"{self.root} for testing: {error}"
            ) from None
        return files.subset(sorted(train if stored == ".train" else test))


@dataclass(eq=False, repr=False)
class ImageNet(ImageFolder):
    """ImageNet-1K, or a part of it, in the usual layout: ``train/CLASS/*`` and ``val/CLASS/*``.

    Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.

    Args:
        root: Folder with ``train`` and ``val``.
        image_size: Height and width of crops and of evaluation images; null is 224.
    """

    root: str | Path = "data/imagenet"
    _: KW_ONLY
    image_size: ImageSize | None = None  # type: ignore[assignment]
    crop_fraction: float = 0.875

    name = "imagenet"
    splits = {"pretrain": "train", "train": "train", "val": "val", "test": "val"}  # noqa: RUF012
    _split_folders = {"train": "train", "val": "val"}  # noqa: RUF012

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_size = self.image_size or 224

    def find_value_range(self) -> ValueRange | None:
        """See ``DataSource.find_value_range``: ImageNet's images have 8 bits."""
        return self.value_range

    def _names(self, stored: str) -> list[str]:
        folder = Path(self.root) / stored
        if not os.path.isdir(folder):
            raise DataError(
                f"no {stored} split of ImageNet: {folder.absolute()} is not a folder. ImageNet "
                "cannot be downloaded without an account: unpack it as train/CLASS/*.JPEG and "
                "val/CLASS/*.JPEG and set data.root=FOLDER"
            )
        return super()._names(stored)


def _classes(names: Sequence[str]) -> tuple[str, ...]:
    """First-level folders of relative file names, sorted."""
    return tuple(sorted({name.split(os.sep, 1)[0] for name in names if os.sep in name}))


def _contents(files: ImageFiles) -> str:
    """How many images of which classes a split holds, in words."""
    counts = files.labels[files.labels >= 0].bincount(minlength=len(files.classes)).tolist()
    text = f"{len(files)} images"
    if files.classes and len(files.classes) <= 20:
        each = ", ".join(f"{name} {n}" for name, n in zip(files.classes, counts, strict=True))
        text += f" of {len(files.classes)} classes ({each})"
    elif files.classes:
        text += f" of {len(files.classes)} classes ({min(counts)} to {max(counts)} each)"
    unlabelled = len(files) - sum(counts)
    return f"{text}, {unlabelled} unlabelled" if unlabelled else text
