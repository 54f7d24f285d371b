"""Square crops of random size and place, brought back to the size of the image."""

import torch
from torch import Tensor

from vje_pyro.data.crops import apply_separable, resample_matrix

SIDES = (0.25, 1.0)
"""Least and greatest side of a crop as a share of the image's: areas from a sixteenth to all."""


def random_crops(images: Tensor, seed: int) -> Tensor:
    """A crop of every image, resampled to its size as the views are.

    The side is uniform in :data:`SIDES`, as in the URL benchmark (Kirchhof et al., arXiv
    2307.03810), whose crops are central; the place is uniform here.

    Args:
        images: uint8, ``(B, C, H, W)``.
        seed: Of sides and places.

    Returns:
        uint8, ``(B, C, H, W)``, on the CPU.

    Raises:
        ValueError: If the images are not a uint8 batch.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"images must be uint8 (B, C, H, W), got {images.dtype} of shape {tuple(images.shape)}."
        )
    generator = torch.Generator().manual_seed(seed)
    size, top, left = torch.rand(3, len(images), generator=generator)
    share = SIDES[0] + (SIDES[1] - SIDES[0]) * size
    rows, columns = (
        resample_matrix(place * (1 - share) * side, share * side, side, side)
        for place, side in zip((top, left), images.shape[-2:], strict=True)
    )
    crops = apply_separable(images.cpu().float(), rows, columns)
    return crops.round_().clamp_(0, 255).to(torch.uint8)
