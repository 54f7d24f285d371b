"""A few images of a split, wherever it is kept."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.arrays import ImageArray, convert_channels, resize_images
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles, none_readable, pil_to_tensor


def select_images(
    split: ImageArray | ImageFiles,
    indices: Sequence[int] | NDArray[np.int64] | Tensor,
    channels: int,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """Images by their index in a split, without those that are damaged.

    Images on disk are decoded whole and brought to the size and channels; those in memory are
    given as they are. Each image on disk is decoded once, however often it is asked for.

    Returns:
        The images, uint8 ``(n, channels, image_size, image_size)``, and the index of each, int64
        ``(n,)``: ``indices`` without those of damaged images.

    Raises:
        DataError: If all are damaged, or more than the split's ``max_corrupt``.
    """
    wanted = torch.as_tensor(indices, dtype=torch.int64)
    if hasattr(split, "images"):
        return split.images[wanted], wanted
    pictures: dict[int, Tensor] = {}
    for index in wanted.unique().tolist():
        try:
            picture = pil_to_tensor(split.image(index))[None]
        except CorruptImage as error:
            split.note_corrupt(index, str(error))
            continue
        pictures[index] = convert_channels(resize_images(picture, image_size), channels)
    kept = wanted[[index in pictures for index in wanted.tolist()]]
    if not len(kept):
        raise none_readable(split)
    return torch.cat([pictures[index] for index in kept.tolist()]), kept
