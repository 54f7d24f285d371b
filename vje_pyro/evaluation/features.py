"""Features of a whole split: what every evaluation protocol starts from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.batches import batches
from vje_pyro.data.files import ImageFiles
from vje_pyro.distributions.moments import moments
from vje_pyro.embedding import map_batches
from vje_pyro.errors import DataError, NonFiniteError
from vje_pyro.method import Method, ProbabilisticMethod, require

FEATURES = ("encoder", "batch-norm")
"""The features of a method: the encoder's output, and what a posterior is inferred from, which is
after the batch norm where the method has one."""


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
    method: Method,
    split: ImageArray | ImageFiles,
    normalize: Callable[[Tensor], Tensor],
    batch_size: int = 512,
    device: torch.device | str | None = None,
    *,
    features: str | Callable[[Tensor], Tensor] = "encoder",
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
        features: One of :data:`FEATURES`, or a function of normalised images ``(B, C, H, W)``.
        num_workers: Processes that decode, for a split that is not in memory.
        posterior: Also compute the posterior's mean and standard deviation.

    Raises:
        ValueError: If the method has no such features.
        VJEError: If it has no posterior that was asked for.
        DataError: If the split is empty, or has too many damaged files.
        NonFiniteError: If a feature is NaN or infinite.
    """
    embed = _embedding(method, features)
    device = next(method.parameters()).device if device is None else torch.device(device)
    method.to(device)
    if isinstance(normalize, nn.Module):
        normalize.to(device)
    of_posterior = require(method, ProbabilisticMethod).posterior if posterior else None
    labels: list[Tensor] = []

    def images() -> Iterator[Tensor]:
        for batch, classes in batches(split, batch_size, num_workers):
            labels.append(classes)
            yield batch

    def read(batch: Tensor) -> dict[str, Tensor]:
        inputs = normalize(batch)
        found = {"x": embed(inputs).float()}
        if of_posterior:
            loc, scale = moments(of_posterior(inputs))
            found |= {"loc": loc.float(), "scale": scale.float()}
        return found

    found = {name: values.numpy() for name, values in map_batches(method, read, images()).items()}
    if not found:
        raise DataError("there are no images to embed: the split is empty or all are damaged")
    return Features(
        found["x"],
        torch.cat(labels).cpu().numpy(),
        split.digest(),
        (found["loc"], found["scale"]) if posterior else None,
    )


def pixels(split: ImageArray) -> Features:
    """The raw-pixel baseline: every image's pixels in [0, 1], flattened."""
    x = split.images.flatten(1).float() / 255
    return Features(x.cpu().numpy(), split.labels.cpu().numpy(), split.digest())


def _embedding(
    method: Method, features: str | Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    if callable(features):
        return features
    offered = {"encoder": method.embed}
    if isinstance(method, ProbabilisticMethod):
        offered["batch-norm"] = method.encode
    if features not in offered:
        raise ValueError(
            f"{type(method).__name__} has no features {features!r}; choose from {list(offered)}"
        )
    return offered[features]
