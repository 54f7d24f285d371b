"""A few images of a split, wherever it is kept."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.arrays import ImageArray, convert_channels, resize_images
from vje_pyro.data.files import ImageFiles, pil_to_tensor


def select_images(
    split: ImageArray | ImageFiles,
    indices: Sequence[int] | NDArray[np.int64] | Tensor,
    channels: int,
    image_size: int,
) -> Tensor:
    """Images by their index in a split, uint8 ``(n, channels, image_size, image_size)``.

    Images on disk are decoded whole and brought to the size and channels; those in memory are
    given as they are.
    """
    if hasattr(split, "images"):
        return split.images[torch.as_tensor(indices)]
    pictures = (pil_to_tensor(split.image(int(index)))[None] for index in indices)
    return torch.cat([convert_channels(resize_images(p, image_size), channels) for p in pictures])
