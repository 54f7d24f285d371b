"""A small residual network for small images and for work on a CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad


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
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256),
        stem_width: int = 32,
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
    """A 3 × 3 convolution that is one matrix product where it leaves at most 2 × 2 pixels.

    There a CPU's convolution runs at a third of the machine's speed, and nearly every pixel of the
    map sees every other: at a batch of 256, 16 pixels and the default widths, this takes a quarter
    off a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = (_taps(size, self.stride[0]) for size in x.shape[2:])
        if not x.is_cpu or len(height) * len(width) > 4:
            return super().forward(x)
        y = linear(x.permute(0, 2, 3, 1).flatten(1), self._matrix(height, width))
        return y.unflatten(1, (len(height), len(width), -1)).permute(0, 3, 1, 2)

    def _matrix(self, height: Tensor, width: Tensor) -> Tensor:
        """The weights between all pixels, (rows · columns · out, rows · columns · in)."""
        rows, columns = height[:, None, :, None], width[None, :, None, :]
        tap = torch.where((rows < 0) | (columns < 0), 9, 3 * rows + columns)  # out, out, in, in
        taps = pad(self.weight.flatten(2).permute(2, 0, 1), (0, 0, 0, 0, 0, 1))  # the last is zero
        blocks = taps.index_select(0, tap.flatten()).unflatten(0, (len(height) * len(width), -1))
        return blocks.transpose(1, 2).flatten(2).flatten(0, 1)


def _taps(size: int, stride: int) -> Tensor:
    """Which of the three taps joins an output (row) to an input (column); −1 is none of them."""
    tap = torch.arange(size) - stride * torch.arange((size - 1) // stride + 1)[:, None] + 1
    return tap.where((tap >= 0) & (tap < 3), -1)
