"""The small public data sets, read through torchvision and held in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.sources import DataSource
from vje_pyro.errors import DataError
from vje_pyro.ranges import ImageSize


@dataclass(eq=False, repr=False)
class TorchvisionSource(DataSource):
    """A data set that torchvision can read, and download where that is asked for.

    Args:
        root: Folder that torchvision keeps the data set in.
        download: Fetch the files when they are absent.
        image_size: Height and width wanted; null is the native size.
    """

    root: str | Path = "data"
    download: bool = False
    image_size: ImageSize | None = None  # type: ignore[assignment]

    title, native_size, reader = "", 0, ""
    channels, num_classes = 3, 10
    splits = {"pretrain": "train", "train": "train", "test": "test"}  # noqa: RUF012

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = Path(self.root)
        self.image_size = self.image_size or self.native_size

    def _open(self, stored: str) -> Any:
        """The torchvision data set of a stored split."""
        from torchvision import datasets

        return getattr(datasets, self.reader)(
            self.root, **self._which(stored), download=self.download
        )

    def _which(self, stored: str) -> dict[str, Any]:
        """The argument by which torchvision tells splits apart."""
        return {"train": stored == "train"}

    def _load(self, stored: str) -> ImageArray:
        try:
            return _arrays(self._open(stored))
        except Exception as error:  # of the download, the archive, or what it unpacks
            way_out = (
                "the download failed; check the connection, or fetch the files by hand and set "
                "data.root=FOLDER"
                if self.download
                else "set data.download=true to fetch it, or data.root=FOLDER to where it is"
            )
            raise DataError(
                f"cannot read the {stored} split of {self.title} in "
                f"{Path(self.root).absolute()}: {way_out} ({error})"
            ) from error


def _arrays(dataset: Any) -> ImageArray:
    """Images, labels and class names of a torchvision data set."""
    images = torch.as_tensor(dataset.data)
    if images.dim() == 3:
        images = images[:, None]
    elif images.shape[1] != 3:
        images = images.permute(0, 3, 1, 2)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return ImageArray(
        images.contiguous(),
        torch.as_tensor(labels, dtype=torch.int64),
        tuple(map(str, getattr(dataset, "classes", range(10)))),
    )


class CIFAR10(TorchvisionSource):
    """CIFAR-10: 50,000 and 10,000 images of 32 x 32 (Krizhevsky, 2009)."""

    name = "cifar10"
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    title, native_size, reader = "CIFAR-10", 32, "CIFAR10"


class CIFAR100(TorchvisionSource):
    """CIFAR-100: 50,000 and 10,000 images of 32 x 32 in 100 classes (Krizhevsky, 2009)."""

    name, num_classes = "cifar100", 100
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    title, native_size, reader = "CIFAR-100", 32, "CIFAR100"


class STL10(TorchvisionSource):
    """STL-10: 100,000 unlabelled, 5,000 and 8,000 labelled images, 96 x 96 (Coates et al. 2011)."""

    name = "stl10"
    mean, std = (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)
    splits = {"pretrain": "unlabeled", "train": "train", "test": "test"}  # noqa: RUF012
    title, native_size, reader = "STL-10", 96, "STL10"

    def _which(self, stored: str) -> dict[str, Any]:
        return {"split": stored}


class SVHN(TorchvisionSource):
    """Street View House Numbers: 73,257 and 26,032 digits of 32 x 32 (Netzer et al., 2011)."""

    name = "svhn"
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    title, native_size, reader = "SVHN", 32, "SVHN"

    def _which(self, stored: str) -> dict[str, Any]:
        return {"split": stored}


class FashionMNIST(TorchvisionSource):
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28 (Xiao et al., arXiv 1708.07747)."""

    name, channels = "fashion_mnist", 1
    mean, std = (0.2860,), (0.3530,)
    title, native_size = "Fashion-MNIST", 28

    def _open(self, stored: str) -> Any:
        from torchvision import datasets

        class FashionMNIST(datasets.FashionMNIST):  # whose name is that of the folder
            """Reads the published files only, and no pickle that an old torchvision left there."""

            def _check_legacy_exist(self) -> bool:
                return False

        return FashionMNIST(self.root, train=stored == "train", download=self.download)
