"""Activation checkpointing: what a block computed is not kept but computed again on the way back.

Chen et al., "Training deep nets with sublinear memory cost" (arXiv 1604.06174), by
:func:`torch.utils.checkpoint.checkpoint`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(module: nn.Module) -> None:
    """Keep only the inputs of the module's blocks for the backward pass.

    In place; names, weights and buffers stay what they are. Loss and gradients are those without
    (randomness is repeated, and running statistics see a batch once); a step costs about one more
    forward pass of the blocks.

    Args:
        module: An encoder. Its blocks are what its ``nn.Sequential``s hold, where that is composed
            itself: residual blocks, blocks of a transformer. A module without such blocks is one
            block.
    """
    for block in list(_blocks(module)) or [module]:
        kind = type(block)
        block.__class__ = type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost composed items of sequences."""
    for child in module.children():
        is_item = isinstance(module, nn.Sequential) and not isinstance(child, nn.Sequential)
        if is_item and any(True for _ in child.children()):
            yield child
        else:
            yield from _blocks(child)


class _Recomputed:
    """Mixed into a block's class: with gradient, only its inputs are kept."""

    @torch.compiler.disable(recursive=False)  # a block is a graph of its own, or several
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(
            super().forward,  # type: ignore[misc]
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _spared_buffers(self)),  # type: ignore[arg-type]
            **kwargs,
        )


@contextmanager
def _spared_buffers(module: nn.Module) -> Iterator[None]:
    """Inside the block ``module`` works on copies of its buffers, such as running statistics."""
    kept: list[tuple[nn.Module, dict[str, Tensor | None]]] = [
        (child, dict(child._buffers)) for child in module.modules() if child._buffers
    ]
    for child, buffers in kept:
        copies = {name: value.clone() for name, value in buffers.items() if value is not None}
        child._buffers.update(copies)
    try:
        yield
    finally:
        for child, buffers in kept:
            child._buffers.update(buffers)
