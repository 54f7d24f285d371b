"""Statistics of the batch of all processes, with the gradient of one process that had it all.

Every process computes the same loss of the whole batch. The collectives below add up the gradients
of all processes' copies of that loss, and DistributedDataParallel averages over processes: what is
left is the gradient of one copy.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import normalize


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def world_size() -> int:
    """Processes that share the batch, each with an equal part."""
    return 1 if _alone() else dist.get_world_size()


def global_mean(local: Tensor) -> Tensor:
    """Mean over processes of each process's mean, of the same shape; differentiable."""
    return local if _alone() else _Sum.apply(local) / dist.get_world_size()


def global_rows(local: Tensor) -> Tensor:
    """Rows of all processes, ``(world_size · N, …)`` of ``(N, …)``, by rank; differentiable."""
    return local if _alone() else _Rows.apply(local)


def shared(drawn: Tensor) -> Tensor:
    """What the first process drew: generators differ between processes."""
    if not _alone():
        dist.broadcast(drawn, 0)
    return drawn


def random_directions(embeddings: Tensor, number: int) -> Tensor:
    """Unit vectors in columns, ``(D, number)``, the same in all processes, for ``(N, D)``."""
    shape = (embeddings.shape[-1], number)
    drawn = torch.randn(shape, dtype=embeddings.dtype, device=embeddings.device)
    return normalize(shared(drawn), dim=0)


class _Sum(Function):
    """Sum over processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


class _Rows(Function):
    """Rows of all processes; the gradient of a process's own rows is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.number = len(local)
        rows = [torch.empty_like(local.contiguous()) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, local.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = ctx.number * dist.get_rank()
        return _Sum.forward(ctx, gradients[0])[first : first + ctx.number]
