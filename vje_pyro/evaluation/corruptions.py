"""Corruptions of images in five severities, made on the fly and seeded.

The idea is that of Hendrycks & Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations" (ICLR 2019); the operations and their strengths are this project's,
so figures are not comparable to those of CIFAR-10-C.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

SEVERITIES = (1, 2, 3, 4, 5)

_Corruption = Callable[[Tensor, float, Generator], Tensor]


def _noise(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return images + deviation * torch.randn(images.shape, generator=generator)


def _blur(images: Tensor, width: float, generator: Generator) -> Tensor:
    sigma = width * images.shape[-1]
    reach = min(int(3 * sigma) + 1, images.shape[-1] - 1)  # what the reflected border allows
    return gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)


def _contrast(images: Tensor, factor: float, generator: Generator) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor * (images - mean)


def _brightness(images: Tensor, shift: float, generator: Generator) -> Tensor:
    return images + shift


def _pixelate(images: Tensor, share: float, generator: Generator) -> Tensor:
    size = images.shape[-2:]
    small = [max(1, round(share * side)) for side in size]
    return interpolate(interpolate(images, small, mode="area"), size, mode="nearest-exact")


CORRUPTIONS: dict[str, tuple[_Corruption, tuple[float, ...]]] = {
    "gaussian-noise": (_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "gaussian-blur": (_blur, (0.02, 0.03, 0.045, 0.06, 0.08)),
    "contrast": (_contrast, (0.75, 0.55, 0.4, 0.27, 0.15)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (_pixelate, (0.5, 0.4, 0.3, 0.2, 0.12)),
}
"""By name the operation and its strength at each severity, for values in [0, 1]: the noise's
deviation, the blur's deviation as a share of the image's side, the factor on the distance to the
image's mean, the shift, and the share of the side that is left in pixels."""


def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupted copies of images.

    Args:
        images: uint8, ``(B, C, H, W)``.
        name: One of :data:`CORRUPTIONS`.
        severity: 1 to 5; 0 leaves the images as they are.
        seed: Of the noise. The same at every severity, so that only its strength differs.

    Returns:
        uint8, ``(B, C, H, W)``, on the CPU.

    Raises:
        ValueError: If the corruption is unknown, the severity outside 0…5, or the images are not
            a uint8 batch.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; choose from {list(CORRUPTIONS)}.")
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severity must be 0, 1, …, 5, got {severity}.")
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"images must be uint8 (B, C, H, W), got {images.dtype} of shape {tuple(images.shape)}."
        )
    if severity == 0:
        return images
    operation, strengths = CORRUPTIONS[name]
    generator = torch.Generator().manual_seed(seed)
    changed = operation(images.cpu().float() / 255, strengths[severity - 1], generator)
    return (255 * changed).round_().clamp_(0, 255).to(torch.uint8)
