"""Features of a whole split: what every evaluation protocol starts from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.batches import batches
from vje_pyro.data.files import ImageFiles
from vje_pyro.distributions.moments import moments
from vje_pyro.errors import DataError, NonFiniteError
from vje_pyro.method import evaluating

EMBEDDINGS = {"encoder": "embed", "batch-norm": "encode"}
"""The features a method offers, and the method of it that computes them: the encoder's output,
and that after the batch norm where the method has one."""


@dataclass(frozen=True)
class Features:
    """Features of one split.

    Args:
        x: float32, shape ``(N, D)``.
        y: Classes, int64, shape ``(N,)``; -1 where unlabelled.
        digest: Digest of the split they were computed from; empty when unknown.
        posterior: Mean and standard deviation of ``q(z | image)``, each ``(N, D)``; None where the
            method has no posterior, or it was not asked for.

    Raises:
        ValueError: If the shapes do not fit together.
        NonFiniteError: If a feature is NaN or infinite.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    digest: str = ""
    posterior: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.shape != (len(self.x),):
            raise ValueError(
                f"features must be (N, D) with labels (N,), got {self.x.shape} and {self.y.shape}"
            )
        finite = np.atleast_1d(np.isfinite(self.x).all(axis=1))
        if not finite.all():
            raise NonFiniteError(
                f"{np.count_nonzero(~finite)} of {len(finite)} images have a NaN or infinite "
                f"feature, the first is image {finite.argmin()}; use an earlier checkpoint"
            )

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, chosen: NDArray[np.bool_]) -> "Features":
        """The images where ``chosen`` ``(N,)`` is true; the digest stays that of the split."""
        posterior = self.posterior
        if posterior is not None:
            posterior = posterior[0][chosen], posterior[1][chosen]
        return Features(self.x[chosen], self.y[chosen], self.digest, posterior)


def extract(
    method: nn.Module,
    split: ImageArray | ImageFiles,
    normalize: Callable[[Tensor], Tensor],
    batch_size: int = 512,
    device: torch.device | str | None = None,
    *,
    features: str = "encoder",
    num_workers: int = 0,
    posterior: bool = False,
) -> Features:
    """Compute a split's features in evaluation mode, in the split's order, without gradients.

    Every submodule's training mode is restored afterwards and no state (batch norm statistics)
    changes. Damaged files are logged and left out.

    Args:
        method: A method (:class:`vje_pyro.method.Method`).
        split: The images, in memory or decoded on demand.
        normalize: From uint8 images ``(B, C, H, W)`` to the method's input.
        batch_size: Images a batch; changes speed and memory, not the features (but for rounding).
        device: Where to compute; the method is moved there and stays. Where it is when None.
        features: One of :data:`EMBEDDINGS`.
        num_workers: Processes that decode, for a split that is not in memory.
        posterior: Also compute the posterior's mean and standard deviation.

    Raises:
        ValueError: If the method has no such features, or no posterior that was asked for.
        DataError: If the split is empty, or has too many damaged files.
        NonFiniteError: If a feature is NaN or infinite.
    """
    embed = _embedding(method, features)
    device = next(method.parameters()).device if device is None else torch.device(device)
    method.to(device)
    if isinstance(normalize, nn.Module):
        normalize.to(device)
    if posterior and not hasattr(method, "posterior"):
        raise ValueError(f"{type(method).__name__} has no posterior: it is not probabilistic")
    parts, labels, locs, scales = [], [], [], []
    with evaluating(method), torch.inference_mode():
        for images, classes in batches(split, batch_size, num_workers):
            inputs = normalize(images.to(device))
            parts.append(embed(inputs).float().cpu())
            labels.append(classes.cpu())
            if posterior:
                loc, scale = moments(method.posterior(inputs))  # type: ignore[operator]
                locs.append(loc.float().cpu())
                scales.append(scale.float().cpu())
    if not parts:
        raise DataError("there are no images to embed: the split is empty or all are damaged")
    return Features(
        torch.cat(parts).numpy(),
        torch.cat(labels).numpy(),
        split.digest(),
        (torch.cat(locs).numpy(), torch.cat(scales).numpy()) if posterior else None,
    )


def pixels(split: ImageArray) -> Features:
    """The raw-pixel baseline: every image's pixels in [0, 1], flattened."""
    x = split.images.flatten(1).float() / 255
    return Features(x.cpu().numpy(), split.labels.cpu().numpy(), split.digest())


def _embedding(method: nn.Module, features: str) -> Callable[[Tensor], Tensor]:
    embed = getattr(method, EMBEDDINGS.get(features, ""), None)
    if embed is None:
        offered = [name for name, attribute in EMBEDDINGS.items() if hasattr(method, attribute)]
        raise ValueError(
            f"{type(method).__name__} has no features {features!r}; choose from {offered}"
        )
    result: Callable[[Tensor], Tensor] = embed
    return result
