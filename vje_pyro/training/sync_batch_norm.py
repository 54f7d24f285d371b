"""Batch norm over the batch of all processes, on any device and for any kind of batch norm.

torch's own ``SyncBatchNorm`` refuses tensors on the CPU, and its conversion replaces subclasses of
batch norm, such as timm's with an activation in it, by plain ones. So modules stay what they are
here and only the statistics they are given change. On CUDA these are torch's, whose kernels pass
over the activations less often; elsewhere they are the formula below in plain operations.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import batch_norm
from torch.nn.modules._functions import SyncBatchNorm as FusedSyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


def synchronize_batch_norm(module: nn.Module) -> None:
    """Let every batch norm in ``module`` normalise with the statistics of all processes' batches.

    In place; names, weights and buffers stay what they are, so checkpoints fit with and without.
    One process alone, and evaluation, compute what they did. The processes' batches must be of
    equal size.

    Args:
        module: Holds batch norms, of torch or subclasses that call
            :func:`torch.nn.functional.batch_norm`.
    """
    for child in module.modules():
        if isinstance(child, _BatchNorm) and not isinstance(child, _Synchronized):
            child.__class__ = _synchronized(type(child))


class _Synchronized:
    """Mixed into a class of batch norms: in training its statistics are those of all processes."""

    training: bool

    @torch.compiler.disable  # graphs end at collectives
    def forward(self, *inputs: Tensor) -> Tensor:
        shared = self.training and dist.is_available() and dist.is_initialized()
        if not shared or dist.get_world_size() == 1:
            return super().forward(*inputs)  # type: ignore[misc]
        with _SharedStatistics():
            return super().forward(*inputs)  # type: ignore[misc]


def _synchronized(kind: type) -> type:
    return type(f"Synchronized{kind.__name__}", (_Synchronized, kind), {})


class _SharedStatistics(TorchFunctionMode):
    """In this context ``batch_norm`` of a batch is that of all processes' batches."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return (_normalize if func is batch_norm else func)(*args, **(kwargs or {}))


def _normalize(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As :func:`torch.nn.functional.batch_norm` in training."""
    if input.is_cuda:
        world = dist.group.WORLD, dist.get_world_size()
        running = running_mean, running_var
        return FusedSyncBatchNorm.apply(input, weight, bias, *running, eps, momentum, *world)
    return _BatchNormOfAll.apply(input, weight, bias, running_mean, running_var, eps, momentum)


class _BatchNormOfAll(Function):
    """Batch norm of channel 1 with the mean and variance over all processes.

    Ioffe & Szegedy (arXiv 1502.03167). The processes' gradients of the statistics are added up;
    those of weight and bias are each process's own, for DistributedDataParallel to average.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
        momentum: float,
    ) -> Tensor:
        var, mean = _of_all(*torch.var_mean(input.float(), _reduced(input), correction=0))
        count = dist.get_world_size() * input.numel() // input.shape[1]
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
        inverse = (var + eps).rsqrt()
        ctx.save_for_backward(input, weight, mean, inverse)
        ctx.count = count
        output = (input.float() - _wide(mean, input)) * _wide(inverse, input)
        if weight is not None:
            output = output * _wide(weight, input)
        return (output if bias is None else output + _wide(bias, input)).to(input.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse = ctx.saved_tensors
        output = gradients[0].float()
        normal = (input.float() - _wide(mean, input)) * _wide(inverse, input)
        dims = _reduced(input)
        sums = torch.stack([output.sum(dims), (output * normal).sum(dims)])
        bias_gradient, weight_gradient = sums.clone()
        dist.all_reduce(sums)
        offset, slope = (_wide(s, input) for s in sums / ctx.count)
        scale = _wide(inverse if weight is None else inverse * weight, input)
        gradient = (scale * (output - offset - normal * slope)).to(input.dtype)
        wanted = ctx.needs_input_grad
        return (
            gradient,
            weight_gradient if wanted[1] else None,
            bias_gradient if wanted[2] else None,
            *[None] * 4,
        )


def _of_all(var: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of the union of equally large batches, from those of this process's."""
    mine = torch.stack([var, mean])
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    variances, means = torch.stack(gathered).unbind(1)
    return variances.mean(0) + means.var(0, correction=0), means.mean(0)


def _reduced(input: Tensor) -> list[int]:
    return [dim for dim in range(input.dim()) if dim != 1]


def _wide(values: Tensor, input: Tensor) -> Tensor:
    """One value a channel, in a shape that broadcasts over ``input``."""
    return values.reshape(-1, *[1] * (input.dim() - 2))
