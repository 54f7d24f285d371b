"""Random crops of a whole batch, each image its own, as two small matrix products.

Cropping and resizing are separable and linear: an image ``x`` becomes ``R_y x R_xᵀ`` with one
banded matrix of bilinear weights per axis and image. A mirror image is a box of negative width, a
Gaussian blur one more matrix.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_boxes(
    uniforms: Tensor | Sequence[Tensor],
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
) -> Tensor:
    """Boxes of random area, aspect ratio and place, as in the Inception crop: ``(4, *batch)``.

    The area is uniform in ``scale`` and the logarithm of the aspect ratio uniform over that part of
    ``ratio`` with which the box fits, so no draw is rejected. Left, top, width and height are
    real-valued, in pixels.

    Args:
        uniforms: Four uniform draws on [0, 1), each of shape ``batch``: area, ratio, left, top.
        height: Image height in pixels.
        width: Image width in pixels.
        scale: Least and greatest area, as a fraction of the image.
        ratio: Least and greatest width over height.
    """
    area = scale[0] + (scale[1] - scale[0]) * uniforms[0]
    # width² = area · ratio · H W ≤ W² and height² = area · H W / ratio ≤ H²
    aspect = math.log(width / height)
    least = (area.log() + aspect).clamp(min=math.log(ratio[0]), max=math.log(ratio[1]))
    most = (aspect - area.log()).clamp(min=math.log(ratio[0]), max=math.log(ratio[1]))
    half_log_ratio = (least + (most - least) * uniforms[1]) / 2
    size = (area * (height * width)).sqrt()
    box_width = (size * half_log_ratio.exp()).clamp(max=float(width))
    box_height = (size * (-half_log_ratio).exp()).clamp(max=float(height))
    left, top = uniforms[2] * (width - box_width), uniforms[3] * (height - box_height)
    return torch.stack([left, top, box_width, box_height])


def resample_matrix(start: Tensor, length: Tensor, in_size: int, out_size: int) -> Tensor:
    """Weights that resample the stretch ``[start, start + length]`` of an axis.

    The filter is Pillow's antialiased bilinear one (``Image.resize(..., box=...)``): a triangle of
    one pixel on each side, or of one output pixel where that is larger. Pixels beyond the box but
    inside the image take part.

    Args:
        start: First edge in pixels, shape ``(N,)``.
        length: Extent in pixels, shape ``(N,)``; a negative one runs backwards.
        in_size: Pixels of the axis.
        out_size: Pixels wanted.

    Returns:
        Shape ``(N, out_size, in_size)``; rows sum to one.
    """
    step = length / out_size
    centres = torch.arange(out_size, device=start.device) + 0.5
    pixels = torch.arange(in_size, device=start.device) + 0.5
    places = start[:, None] + centres * step[:, None]
    weights = places[..., None] - pixels
    weights.abs_().mul_(-1 / step.abs().clamp(min=1.0)[:, None, None]).add_(1.0).clamp_(min=0.0)
    return weights.div_(weights.sum(-1, keepdim=True))


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Gaussian blur of an axis, renormalised at the borders: ``(N, size, size)``, rows sum to one.

    Args:
        sigma: Standard deviation in pixels, shape ``(N,)``; below 0.05 the matrix is the identity.
        size: Pixels of the axis.
    """
    pixels = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    square = (pixels[:, None] - pixels).square()
    exponent = square / (2 * sigma[:, None, None].clamp(min=1e-3).square())
    # cut six deviations out: beyond, denormal numbers would make the arithmetic crawl
    weights = torch.where(exponent < 20, torch.exp(-exponent.clamp(max=20)), 0.0)
    return weights.div_(weights.sum(-1, keepdim=True))


def apply_separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ image @ columnsᵀ`` for each image and channel, ``(N, C, S, T)``.

    Args:
        images: Floats, shape ``(N, C, H, W)``.
        rows: Shape ``(N, S, H)``.
        columns: Shape ``(N, T, W)``.
    """
    n, channels, height, width = images.shape
    across = torch.bmm(images.reshape(n, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows[:, None], across.view(n, channels, height, -1))
