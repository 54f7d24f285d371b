"""``torch.compile`` for what a training step runs."""

from typing import Any

from torch import nn


def compile_method(
    method: Any, mode: str = "default", head: bool = True, backend: str = "inductor"
) -> None:
    """Compile the encoder, and the head of a method that can (``compile_head``), in place.

    Names, weights and buffers stay what they are, so checkpoints fit with and without.

    Args:
        method: Obeys :class:`vje_pyro.method.Method`; what has no ``encoder`` is compiled nowhere.
        mode: Of ``torch.compile``, for the encoder; ``reduce-overhead`` takes CUDA graphs.
        head: False leaves the head as it is: collectives end a graph, so a head that has some,
            such as shared batch statistics, cannot be one.
        backend: Of ``torch.compile``.
    """
    encoder: nn.Module = method.encoder
    # aot_eager and its like have no modes.
    options = {"mode": mode} if backend == "inductor" else {}
    encoder.compile(backend=backend, dynamic=False, **options)
    if head and hasattr(method, "compile_head"):
        method.compile_head(backend)
