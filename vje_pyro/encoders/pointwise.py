"""A way around a fault of oneDNN: strided 1 × 1 convolutions of few channels, channels last.

Their gradient with respect to the weights is computed on pixels that are first gathered into a
workspace. For fewer than 8 input channels (AVX2) or 16 (AVX-512) the workspace is too small: the
gradient is wrong in silence, or the heap is overwritten and the process aborts. Seen with torch
2.14.1 (oneDNN 3.12.0) in float32 and bfloat16; reported as uxlfoundation/oneDNN#6035.
"""

from typing import Any

from torch import Tensor, nn

_ENOUGH_CHANNELS = 16  # of a group's input; from here on the fault does not arise


def gather_before_pointwise(module: nn.Module) -> None:
    """Let the narrow, strided 1 × 1 convolutions in ``module`` see only the pixels they use.

    In place; names and weights stay what they are. A convolution that is given every second pixel
    and has stride 1 computes the same, and needs no workspace.

    Args:
        module: Any module that may be trained with ``memory_format=torch.channels_last``.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and _is_affected(conv):
            conv.register_forward_pre_hook(_Gather(*conv.stride))
            conv.stride = (1, 1)


def _is_affected(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid")
    return pointwise and max(conv.stride) > 1 and conv.in_channels < _ENOUGH_CHANNELS * conv.groups


class _Gather:
    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns

    def __call__(self, conv: nn.Module, inputs: Any) -> tuple[Tensor]:
        (x,) = inputs
        return (x[..., :: self.rows, :: self.columns],)
