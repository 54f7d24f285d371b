"""A further view of an image beside what several other views predict of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from vje_pyro.diagnostics._programs import hold_globals
from vje_pyro.diagnostics.pairs import require_posterior


@dataclass(frozen=True)
class FurtherView:
    """Embeddings of one view of each of N images, and of k others that its posterior sees.

    :func:`~vje_pyro.diagnostics.predictive_check` takes it as it takes pairs: every image is one
    datum.

    Args:
        method: In evaluation mode. Global latents are held at the means that its guide gives them.
        embeddings: Of the views that are seen, ``(k, N, D)``.
        target: Of the further view, ``(N, D)``.
        images: Which image each is of, ``(N,)``.

    Raises:
        VJEError: If the method is no :class:`~vje_pyro.inference.EmbeddingModel`.
        ValueError: If the shapes do not fit together.
    """

    method: Any
    embeddings: Tensor
    target: Tensor
    images: Tensor

    def __post_init__(self) -> None:
        require_posterior(self.method)
        shape = tuple(self.embeddings.shape)
        if len(shape) != 3 or 0 in shape or tuple(self.target.shape) != shape[1:]:
            raise ValueError(
                f"embeddings (k, N, D) of k views and a target (N, D) wanted, got {shape} and "
                f"{tuple(self.target.shape)}."
            )
        if tuple(self.images.shape) != shape[1:2]:
            raise ValueError(f"{shape[1]} images wanted, got {tuple(self.images.shape)}.")
        object.__setattr__(self, "method", hold_globals(self.method, self.arguments()))

    @cached_property
    def _inferred(self) -> tuple[TorchDistribution, Tensor]:
        with torch.no_grad():
            posterior, scale = self.method.infer_views(self.embeddings)
        return posterior, scale

    @property
    def posterior(self) -> TorchDistribution:
        """``q(z | k views)``: batch shape ``(N,)``, event shape ``(D,)``."""
        return self._inferred[0]

    def arguments(self) -> tuple[TorchDistribution, Tensor, Tensor]:
        """Posterior, scale and target: the arguments of both Pyro programs, for a plate of N."""
        return (*self._inferred, self.target)
