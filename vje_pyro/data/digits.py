"""The handwritten digits that scikit-learn carries: real images without a download."""

from dataclasses import dataclass

import numpy as np
import torch

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.sources import DataSource
from vje_pyro.ranges import ImageSize


@dataclass(eq=False, repr=False)
class Digits(DataSource):
    """1,797 grey 8 x 8 digits, split 80/20 by class with seed 0: 1,437 to train, 360 to test.

    The 17 grey levels 0…16 become ``round(255 v / 16)``. Source: E. Alpaydin and C. Kaynak, Optical
    Recognition of Handwritten Digits, UCI, 1998.

    Args:
        image_size: Height and width wanted; null is 8.
    """

    image_size: ImageSize | None = None  # type: ignore[assignment]

    name, channels, num_classes = "digits", 1, 10
    mean, std = (0.3054,), (0.3760,)
    splits = {"pretrain": "train", "train": "train", "test": "test"}  # noqa: RUF012

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_size = self.image_size or 8

    def _load(self, stored: str) -> ImageArray:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        parts = train_test_split(
            np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0
        )
        chosen = parts[0] if stored == "train" else parts[1]
        pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
        return ImageArray(
            torch.from_numpy(pixels)[:, None],
            torch.from_numpy(digits.target[chosen].astype(np.int64)),
            tuple(str(name) for name in digits.target_names),
        )
