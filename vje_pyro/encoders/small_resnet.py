"""A small residual network for small images and for work on a CPU."""

from collections.abc import Sequence
from itertools import product
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, cat, nn
from torch.nn.functional import linear

from vje_pyro.encoders.pointwise import gather_before_pointwise
from vje_pyro.ranges import PositiveInt, Width


class SmallResNet(nn.Module):
    """A 3 × 3 stem, one residual block per width, each halving the image, and average pooling.

    Args:
        in_channels: Channels of the images.
        widths: Channels of every stage; the last is the embedding dimension D.
        stem_width: Channels of the stem.

    Raises:
        ValueError: If no width is given or a size is not positive.

    Source: basic residual block of He et al. (arXiv 1512.03385); the layout is this project's.
    """

    def __init__(
        self,
        in_channels: PositiveInt = 3,
        widths: Annotated[Sequence[Width], MinLen(1)] = (64, 128, 256),
        stem_width: Width = 32,
    ) -> None:
        super().__init__()
        if not widths or min(*widths, in_channels, stem_width) < 1:
            raise ValueError(
                f"SmallResNet needs positive sizes, got in_channels={in_channels}, "
                f"widths={tuple(widths)}, stem_width={stem_width}."
            )
        self.num_features = widths[-1]
        self.stem = nn.Sequential(*_conv_norm(in_channels, stem_width), nn.ReLU(inplace=True))
        widths_in = [stem_width, *widths[:-1]]
        self.stages = nn.Sequential(*(_Block(i, o) for i, o in zip(widths_in, widths, strict=True)))
        gather_before_pointwise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of images ``(B, C, H, W)``."""
        return self.stages(self.stem(images)).mean(dim=(2, 3))


class _Block(nn.Module):
    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm(width_in, width_out, stride=2),
            nn.ReLU(inplace=True),
            *_conv_norm(width_out, width_out),
        )
        self.shortcut = nn.Sequential(*_conv_norm(width_in, width_out, kernel=1, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def _conv_norm(width_in: int, width_out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = _Conv3x3 if kernel == 3 else nn.Conv2d
    conv = convolution(width_in, width_out, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(width_out)]


class _Conv3x3(nn.Conv2d):
    """A 3 × 3 convolution that is a matrix product a pixel where it leaves at most 2 × 2 of them.

    There a CPU's convolution is slow, and much of a pixel's patch is padding: at a batch of 256, 16
    pixels and the default widths, this takes a quarter off a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = ((size - 1) // self.stride[0] + 1 for size in (height, width))
        if not x.is_cpu or rows * columns > 4:
            return super().forward(x)
        # The backward pass of unbind and cat fills no zeros, as that of slices does.
        pixels, taps = x.flatten(2).unbind(-1), self.weight.flatten(2).unbind(-1)
        y = [
            linear(cat([pixels[i] for i, _ in seen], 1), cat([taps[j] for _, j in seen], 1))
            for seen in _seen(height, width, self.stride[0])
        ]
        return torch.stack(y, 1).unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


def _seen(height: int, width: int, stride: int) -> list[list[tuple[int, int]]]:
    """For every output pixel the input pixels that it sees, each with the tap between them."""
    corners = product(range(-1, height - 1, stride), range(-1, width - 1, stride))
    return [
        [
            ((top + row) * width + left + column, 3 * row + column)
            for row, column in product(range(3), repeat=2)
            if 0 <= top + row < height and 0 <= left + column < width
        ]
        for top, left in corners
    ]
