"""Images of a split, wherever it is kept: all of them in order, or a few by their index."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vje_pyro.data.arrays import ImageArray, convert_channels, pixel_tensor, resize_images
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.data.files import ImageFiles, none_readable
from vje_pyro.errors import DataError


def batches(
    split: ImageArray | ImageFiles, batch_size: int, num_workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split once, in order, whole images: for evaluation.

    Args:
        split: In memory or on disk; of the latter damaged files are left out.
        batch_size: Images a batch; the last may be smaller.
        num_workers: Worker processes that decode files.

    Yields:
        ``(images, labels)``: uint8 ``(b, C, H, W)`` and int64 ``(b,)``.

    Raises:
        DataError: If all files are damaged, or more than the split's ``max_corrupt``.
    """
    if isinstance(split, ImageArray):
        if len(split):  # else torch would make one empty batch
            parts = split.images.split(batch_size), split.labels.split(batch_size)
            yield from zip(*parts, strict=True)
        return
    loader = DataLoader(
        _Squares(split), batch_size, num_workers=num_workers, collate_fn=_as_it_is,
        generator=torch.Generator(),
    )  # fmt: skip
    some = not len(split)
    for items in loader:
        if isinstance(items, DataError):
            raise DataError(str(items))
        good = [(index, image) for index, image in items if isinstance(image, Tensor)]
        for index, image in items:
            if not isinstance(image, Tensor):
                split.note_corrupt(index, image)
        if good:
            some = True
            yield torch.stack([image for _, image in good]), split.labels[[i for i, _ in good]]
    if not some:
        raise none_readable(split)


def select_images(
    split: ImageArray | ImageFiles,
    indices: Sequence[int] | NDArray[np.int64] | Tensor,
    channels: int,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """Images by their index in a split, without those that are damaged.

    Images on disk are brought to the size and channels, each once; those in memory are given as
    they are.

    Returns:
        The images, uint8 ``(n, C, H, W)``, and the index of each, int64 ``(n,)``.

    Raises:
        DataError: If all are damaged, or more than the split's ``max_corrupt``.
    """
    wanted = torch.as_tensor(indices, dtype=torch.int64)
    if hasattr(split, "images"):
        return split.images[wanted], wanted
    pictures = {
        index: convert_channels(resize_images(pixel_tensor(image)[None], image_size), channels)
        for index, image in split.readable(wanted.unique().tolist())
    }
    kept = wanted[[index in pictures for index in wanted.tolist()]]
    if not len(kept):
        raise none_readable(split)
    return torch.cat([pictures[index] for index in kept.tolist()]), kept


class _Squares(Dataset[tuple[int, Tensor | str]]):
    """Index and central square, or index and the reason why there is none."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, indices: list[int]) -> Any:
        try:
            return [
                (i, str(x) if isinstance(x, CorruptImage) else self.files.square(x))
                for i, x in zip(indices, self.files.decoded(indices), strict=True)
            ]
        except DataError as error:  # of one that a worker raises, torch loses the type
            return error


def _as_it_is(items: Any) -> Any:
    return items
