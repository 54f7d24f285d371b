"""A small residual network for small images and for work on a CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(width_out)]
