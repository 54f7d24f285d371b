"""The one loop in which a method embeds images: in batches, in evaluation mode."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vje_pyro.data import random_views
from vje_pyro.method import evaluating

BATCH_SIZE = 512


@torch.no_grad()
def map_batches(
    method: nn.Module,
    function: Callable[[Tensor], Mapping[str, Any]],
    batches: Iterable[Tensor],
) -> dict[str, Tensor]:
    """What a function says of every batch, by name in one tensor each, on the CPU.

    The method is in evaluation mode inside, so that its state does not change. The host waits for
    the device once, after the last batch.

    Args:
        method: Where its weights are, the batches are brought.
        function: From a batch ``(B, …)`` to named tensors or arrays, each ``(B, …)``.
        batches: Such as ``images.split(512)``.

    Returns:
        Tensors ``(N, …)`` by name; none where there is no batch.
    """
    device = next(method.parameters()).device
    parts: dict[str, list[Tensor]] = {}
    with evaluating(method):
        for batch in batches:
            for name, values in function(batch.to(device, non_blocking=True)).items():
                part = torch.as_tensor(values).to("cpu", non_blocking=True)
                parts.setdefault(name, []).append(part)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {name: torch.cat(some) for name, some in parts.items()}


def map_views(
    method: nn.Module,
    function: Callable[[Tensor], Mapping[str, Any]],
    batches: Iterable[Tensor],
    make_views: Callable[[Tensor], Tensor],
    num_views: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The same of random views of each image; the global random state is not touched.

    Args:
        method: As of :func:`map_batches`.
        function: From views ``(num_views, B, C, H, W)`` to named tensors ``(B, …)``.
        batches: uint8 images ``(B, C, H, W)``.
        make_views: As of :func:`~vje_pyro.data.random_views`, on the method's device.
        num_views: How many views of each image.
        seed: Of the views, and of all else that is random in the function.

    Raises:
        ValueError: If ``num_views`` is below 1.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return map_batches(
            method, lambda images: function(random_views(make_views, images, num_views)), batches
        )


def embed_views(
    method: nn.Module,
    embed: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    make_views: Callable[[Tensor], Tensor],
    num_views: int,
    seed: int = 0,
) -> Tensor:
    """Embeddings of random views of each image, ``(num_views, N, D)`` float32, on the CPU.

    Args:
        method: As of :func:`map_batches`.
        embed: ``method.embed``, ``method.encode`` or another function of normalised images.
        batches: As of :func:`map_views`, as are the other arguments and errors.
        make_views: See there.
        num_views: See there.
        seed: See there.
    """

    def function(views: Tensor) -> dict[str, Tensor]:
        return {"embeddings": torch.stack([embed(view).float() for view in views], dim=1)}

    found = map_views(method, function, batches, make_views, num_views, seed)
    return found["embeddings"].transpose(0, 1).contiguous()
