"""Statistics of the batch of all processes, with the gradient of one process that had it all.

Every process computes the same loss of the whole batch. The collectives below add up the gradients
of all processes' copies of that loss, and DistributedDataParallel averages over processes: what is
left is the gradient of one copy.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather, all_reduce


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def world_size() -> int:
    """Processes that share the batch, each with an equal part."""
    return 1 if _alone() else dist.get_world_size()


def global_mean(local: Tensor) -> Tensor:
    """Mean over processes of each process's mean, of the same shape; differentiable."""
    return local if _alone() else all_reduce(local) / dist.get_world_size()


def global_rows(local: Tensor) -> Tensor:
    """Rows of all processes, ``(world_size · N, …)`` of ``(N, …)``, by rank; differentiable."""
    return local if _alone() else torch.cat(all_gather(local))


def shared(drawn: Tensor) -> Tensor:
    """What the first process drew: generators differ between processes."""
    if not _alone():
        dist.broadcast(drawn, 0)
    return drawn
