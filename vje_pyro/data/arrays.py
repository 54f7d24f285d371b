"""Images in memory: one split as a uint8 tensor, and the conversions that lead there."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vje_pyro.data.colour import LUMA
from vje_pyro.data.decoding import convert
from vje_pyro.data.value_ranges import ValueRange, is_floating, to_eight_bits

_CHANNELS = (1, 3, 4)
_NARROW = 4
"""No image of this height or width in pixels is expected, rather so many channels."""
_SHAPES = (
    "pass (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels; for one image x[None], for grey "
    "images x[..., None], for flat ones x.reshape(N, H, W, 1)"
)

UNLABELLED = -1
"""The label of an image whose class is not known."""


@dataclass(frozen=True)
class ImageArray:
    """A split that is held in memory.

    Args:
        images: uint8, shape ``(N, C, H, W)``.
        labels: int64, shape ``(N,)``; ``-1`` where the class is not known.
        classes: Class names in the order of the labels; empty when unknown.

    Raises:
        TypeError: If ``images`` is not uint8 or ``labels`` is not int64.
        ValueError: If the shapes do not fit together.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        types = self.images.dtype, self.labels.dtype
        if types != (torch.uint8, torch.int64):
            raise TypeError(f"images must be uint8 and labels int64, got {types[0]} and {types[1]}")
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images must be (N, C, H, W) and labels (N,), got {tuple(self.images.shape)} "
                f"and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def decoded(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """The images as Pillow sees them: mode L or RGB."""
        pixels = (self.images[index].permute(1, 2, 0).numpy() for index in indices)
        return (Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in pixels)

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageArray":
        """The images at ``indices``, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageArray(self.images[chosen], self.labels[chosen], self.classes)

    def digest(self) -> str:
        """SHA-256 (hex) of shape, pixels and labels: the identity of the split in a result."""
        hasher = hashlib.sha256(str(tuple(self.images.shape)).encode())
        hasher.update(self.images.cpu().numpy().tobytes())
        hasher.update(self.labels.cpu().numpy().tobytes())
        return hasher.hexdigest()

    quick_digest = digest


def stratified_order(labels: Tensor, seed: int = 0) -> Tensor:
    """An order of all images whose every prefix holds the classes in proportion: int64 ``(N,)``.

    Within a class the order is shuffled; image number ``r`` of a class of size ``m`` then stands at
    ``(r + U) / m`` of the whole, ``U`` uniform and the same for a class.

    Args:
        labels: int64, shape ``(N,)``.
        seed: Seed of the shuffle.
    """
    random = np.random.default_rng(seed)
    values = labels.cpu().numpy()
    place = np.empty(len(values))
    for value in np.unique(values):
        members = random.permutation(np.flatnonzero(values == value))
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return torch.from_numpy(np.argsort(place, kind="stable"))


def pixel_tensor(image: Image.Image) -> Tensor:
    """The pixels of a picture of 8 bits a channel: uint8 ``(C, H, W)``."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def resize_images(images: Tensor, size: int) -> Tensor:
    """The central squares of uint8 images ``(N, C, H, W)``, resized to ``(N, C, size, size)``.

    A whole-number reduction averages boxes of pixels; any other change of size is bilinear with
    antialiasing.
    """
    side = min(images.shape[-2:])
    top, left = (images.shape[-2] - side) // 2, (images.shape[-1] - side) // 2
    images = images[..., top : top + side, left : left + side]
    if side == size:
        return images.contiguous()
    whole = side % size == 0
    how = {"mode": "area"} if whole else {"mode": "bilinear", "antialias": True}
    parts = [F.interpolate(part.float(), (size, size), **how) for part in images.split(4096)]
    return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])


def convert_channels(images: Tensor, channels: int) -> Tensor:
    """Give uint8 images ``(N, 1 | 3 | 4, H, W)`` the wanted number of channels.

    Grey is repeated, colour becomes grey by the ITU-R 601 luma, and RGBA is laid on white.
    """
    if images.shape[1] == 4 != channels:
        alpha = images[:, 3:].float() / 255
        images = (images[:, :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1).contiguous()
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).round().to(torch.uint8)


def images_to_uint8(
    images: object, channels: int, image_size: int, value_range: ValueRange | None = None
) -> Tensor:
    """Turn what a user holds into the uint8 tensor that the library works on.

    ========================  =======================================================
    shape                     is read as
    ========================  =======================================================
    ``(H, W)``                one grey image
    ``(H, W, C)``             one image
    ``(N, H, W)``             grey images
    ``(N, H, W, C)``          images
    ``(N, C, H, W)``          images
    ``(N, image_size ** 2)``  flat grey images
    ========================  =======================================================

    C is 1, 3 or 4. Where both readings of four dimensions are possible, an array is taken as
    channels-last and a tensor as channels-first. Fewer dimensions that can be read in two ways are
    refused.

    Args:
        images: A Pillow image, NumPy array, tensor or nested list; uint8 or other integers in
            0…255, booleans, or floating point in [0, 1].
        channels: Channels wanted.
        image_size: Height and width wanted, in pixels.
        value_range: Values that become black and white, of integers other than uint8 or of
            floating-point numbers, whichever kind it is of.

    Returns:
        uint8, shape ``(N, channels, image_size, image_size)``.

    Raises:
        TypeError: If the values are not numbers of a kind named above.
        ValueError: If shape or range cannot be read.
    """
    if isinstance(images, Image.Image):
        pixels = np.asarray(convert(images, channels, value_range))
        return images_to_uint8(pixels.reshape(1, *pixels.shape[:2], -1), channels, image_size)
    tensor = images.detach() if isinstance(images, Tensor) else _as_tensor(images)
    tensor = _channels_first(tensor, isinstance(images, Tensor), channels, image_size)
    return resize_images(convert_channels(_bytes(tensor, value_range), channels), image_size)


def _as_tensor(images: object) -> Tensor:
    array = np.asarray(images)
    if array.dtype.kind not in "buif":
        raise TypeError(f"images must be numbers, got an array of dtype {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch does little with the wider unsigned types
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def _bytes(images: Tensor, value_range: ValueRange | None) -> Tensor:
    """Values as uint8: floats from [0, 1], integers from 0…255, booleans as black and white."""
    if images.dtype == torch.uint8 or not images.numel():
        return images.to(torch.uint8)
    if images.is_complex():
        raise TypeError(f"images must be real numbers, got {images.dtype}")
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if value_range is not None and is_floating(value_range) == images.is_floating_point():
        return torch.from_numpy(to_eight_bits(images.cpu().numpy(), value_range)).to(images.device)
    top = 1 if images.is_floating_point() else 255
    low, high = images.min().item(), images.max().item()
    if not 0 <= low <= high <= top:  # false for NaN too
        kind = "floating point images must lie in [0, 1]" if top == 1 else "integers in 0…255"
        raise ValueError(
            f"{kind}, got values from {low:g} to {high:g}: divide by the largest possible value "
            "or pass uint8"
        )
    return ((images * 255).round() if top == 1 else images).to(torch.uint8)


def _channels_first(images: Tensor, prefer_first: bool, channels: int, image_size: int) -> Tensor:
    """Shape ``(N, C, H, W)`` from any of the shapes that ``images_to_uint8`` reads."""
    shape = tuple(images.shape)
    if 0 in shape[1:]:
        raise ValueError(f"images of shape {shape} have no pixels")
    if images.dim() == 2:
        return _from_two(images, image_size)
    if images.dim() == 3:
        return _from_three(images, channels)
    if images.dim() == 4:
        first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
        if first and (prefer_first or not last):
            return images
        if last:
            return images.permute(0, 3, 1, 2)
    raise ValueError(f"cannot read images of shape {shape}: {_SHAPES}")


def _from_two(images: Tensor, image_size: int) -> Tensor:
    """Flat images of the wanted size, or one grey image."""
    count, width = images.shape
    wanted = width == image_size**2
    if wanted and count != width:
        return images.reshape(-1, 1, image_size, image_size)
    flat = any(c * side**2 == width for c in (1, 3) if (side := math.isqrt(width // c)) > _NARROW)
    if wanted or (flat and count != width) or count <= _NARROW:
        raise ValueError(
            f"shape {(count, width)} can be one grey image or {count} flat images: {_SHAPES}"
        )
    return images[None, None]


def _from_three(images: Tensor, channels: int) -> Tensor:
    """One image with channels last, or grey images; three may be the channels of one in colour."""
    first, height, last = images.shape
    if last in _CHANNELS and min(first, height) > _NARROW:
        return images.permute(2, 0, 1)[None]
    if last in _CHANNELS or first == channels == 3:
        raise ValueError(
            f"shape {tuple(images.shape)} can be one image or {first} grey images: {_SHAPES}"
        )
    return images[:, None]
