"""Images spoiled in four ways: outliers to choose a score by, where no real ones may be seen.

Blurred to a smear and almost without contrast (both simpler than any image), drowned in noise, and
cut into 16 patches in random order. Source: this project.
"""

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

_SEED = 0


def smeared(images: Tensor) -> Tensor:
    """Blurred with a fifth of the side."""
    reach = images.shape[-1] // 2
    return gaussian_blur(images.float(), [2 * reach + 1] * 2, [images.shape[-1] / 5] * 2)


def faded(images: Tensor) -> Tensor:
    """A tenth of the contrast."""
    values = images.float()
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (values - mean) / 10


def drowned(images: Tensor) -> Tensor:
    """Noise of half the range."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(_SEED))
    return images.float() + 127.5 * noise


def shuffled(images: Tensor) -> Tensor:
    """Sixteen patches in an order of the image's own."""
    side = images.shape[-1] // 4
    patches = images.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)
    generator = torch.Generator().manual_seed(_SEED)
    order = torch.rand(len(images), 16, generator=generator).argsort(1)
    patches = patches.gather(2, order[:, None, :, None, None].expand_as(patches))
    rows = patches.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5)
    return rows.flatten(4, 5).flatten(2, 3).float()


SPOILED = {f.__name__: f for f in (smeared, faded, drowned, shuffled)}


def spoiled(images: Tensor, how: str) -> Tensor:
    """Images spoiled in one of the ways of :data:`SPOILED`.

    Args:
        images: uint8 ``(N, C, H, W)``, of four pixels a side at least.
        how: Name of the way.

    Example:
        >>> spoiled(torch.full((1, 3, 8, 8), 100, dtype=torch.uint8), "faded").unique()
        tensor([100], dtype=torch.uint8)
    """
    return SPOILED[how](images).round().clamp(0, 255).to(torch.uint8)
