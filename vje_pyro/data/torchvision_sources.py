"""The small public data sets, read through torchvision and held in memory."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.mosaics import read_mosaics
from vje_pyro.data.sources import DataSource
from vje_pyro.errors import DataError
from vje_pyro.ranges import ImageSize, PositiveInt


class TorchvisionSource(DataSource):
    """A data set that torchvision can read, and download where that is asked for.

    Args:
        root: Folder that torchvision keeps the data set in.
        download: Fetch the files when they are absent.
        image_size: Height and width wanted; null is the native size.
        train_limit: Training images, class-balanced; null is all.
        test_limit: Test images, class-balanced; null is all.
    """

    title: str
    native_size: int
    channels = 3
    num_classes = 10
    splits = {"pretrain": "train", "train": "train", "test": "test"}  # noqa: RUF012

    def __init__(
        self,
        root: str = "data",
        download: bool = False,
        image_size: ImageSize | None = None,
        train_limit: PositiveInt | None = None,
        test_limit: PositiveInt | None = None,
    ) -> None:
        super().__init__(train_limit, test_limit)
        self.root = Path(root)
        self.download = download
        self.image_size = image_size or self.native_size

    def _load(self, stored: str) -> ImageArray:
        try:
            return self._arrays(self._open(stored))
        except Exception as error:  # of the download, the archive, or what it unpacks
            raise self._absent(stored, error) from error

    def _absent(self, stored: str, error: Exception | str) -> DataError:
        way_out = (
            "the download failed; check the connection, or fetch the files by hand and set "
            "data.root=FOLDER"
            if self.download
            else "set data.download=true to fetch it, or data.root=FOLDER to where it is"
        )
        return DataError(
            f"cannot read the {stored} split of {self.title} in {self.root.absolute()}: {way_out} "
            f"({error})"
        )

    @abstractmethod
    def _open(self, stored: str) -> Any:
        """The torchvision data set of a stored split."""

    def _arrays(self, dataset: Any) -> ImageArray:
        """Its images, labels and class names."""
        images = torch.as_tensor(dataset.data)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
        return ImageArray(
            images.contiguous(),
            torch.as_tensor(dataset.targets, dtype=torch.int64),
            tuple(dataset.classes),
        )


class CIFAR10(TorchvisionSource):
    """CIFAR-10: 50,000 and 10,000 images of 32 x 32.

    ``root`` holds ``cifar-10-batches-py``, or ``cifar10/cifar10_{train,test}_*.zip``, lossless
    mosaic packs (``vje_pyro.data.mosaics``) of the same images in the same order.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    name, title, native_size = "cifar10", "CIFAR-10", 32
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    sizes = {"train": 50_000, "test": 10_000}  # noqa: RUF012

    def _load(self, stored: str) -> ImageArray:
        packs = sorted((self.root / "cifar10").glob(f"cifar10_{stored}_*.zip"))
        if not packs or (self.root / datasets.CIFAR10.base_folder).exists():
            return super()._load(stored)
        images = read_mosaics(packs)
        if len(images) != self.sizes[stored]:
            raise self._absent(
                stored,
                f"{len(packs)} packs hold {len(images)} of {self.sizes[stored]} images",
            )
        return images

    def _open(self, stored: str) -> Any:
        return datasets.CIFAR10(self.root, train=stored == "train", download=self.download)


class CIFAR100(TorchvisionSource):
    """CIFAR-100: 50,000 and 10,000 images of 32 x 32 in 100 classes.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    name, title, native_size = "cifar100", "CIFAR-100", 32
    num_classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    def _open(self, stored: str) -> Any:
        return datasets.CIFAR100(self.root, train=stored == "train", download=self.download)


class STL10(TorchvisionSource):
    """STL-10: 100,000 unlabelled images to pretrain on, 5,000 and 8,000 labelled, 96 x 96.

    Source: A. Coates, H. Lee and A. Ng, An Analysis of Single-Layer Networks in Unsupervised
    Feature Learning, AISTATS 2011.
    """

    name, title, native_size = "stl10", "STL-10", 96
    mean = (0.4467, 0.4398, 0.4066)
    std = (0.2603, 0.2566, 0.2713)
    splits = {"pretrain": "unlabeled", "train": "train", "test": "test"}  # noqa: RUF012

    def _open(self, stored: str) -> Any:
        return datasets.STL10(self.root, split=stored, download=self.download)

    def _arrays(self, dataset: Any) -> ImageArray:
        return ImageArray(
            torch.from_numpy(np.ascontiguousarray(dataset.data)),
            torch.from_numpy(np.asarray(dataset.labels).astype(np.int64)),
            tuple(dataset.classes),
        )


class SVHN(TorchvisionSource):
    """Street View House Numbers, cropped digits: 73,257 and 26,032 images of 32 x 32.

    Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning,
    NIPS workshop 2011.
    """

    name, title, native_size = "svhn", "SVHN", 32
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)

    def _open(self, stored: str) -> Any:
        return datasets.SVHN(self.root, split=stored, download=self.download)

    def _arrays(self, dataset: Any) -> ImageArray:
        return ImageArray(
            torch.from_numpy(np.ascontiguousarray(dataset.data)),
            torch.from_numpy(np.asarray(dataset.labels).astype(np.int64)),
            tuple(str(digit) for digit in range(10)),
        )


class FashionMNIST(TorchvisionSource):
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28.

    Source: H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017.
    """

    name, title, native_size = "fashion_mnist", "Fashion-MNIST", 28
    channels = 1
    mean = (0.2860,)
    std = (0.3530,)

    def _open(self, stored: str) -> Any:
        return _Published(self.root, train=stored == "train", download=self.download)


class _Published(datasets.FashionMNIST):
    """Reads the published files only, and no pickle that an old torchvision left beside them."""

    def _check_legacy_exist(self) -> bool:
        return False


_Published.__name__ = datasets.FashionMNIST.__name__  # which names the folder
