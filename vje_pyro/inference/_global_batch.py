"""Statistics of the batch of all processes, with the gradient of one process that had it all.

Every process computes the same loss of the whole batch. The collectives add up the gradients of all
copies of that loss, and DistributedDataParallel averages over processes: what is left is the
gradient of one copy.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def world_size() -> int:
    """Processes that share the batch, each with an equal part."""
    return 1 if _alone() else dist.get_world_size()


def global_mean(local: Tensor) -> Tensor:
    """Mean over processes of each process's mean, of the same shape; differentiable."""
    if _alone():
        return local
    from torch.distributed.nn.functional import all_reduce  # not there on every platform

    return all_reduce(local) / dist.get_world_size()


def global_rows(local: Tensor) -> Tensor:
    """Rows of all processes, ``(world_size · N, …)`` of ``(N, …)``, by rank; differentiable."""
    if _alone():
        return local
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(local))


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
