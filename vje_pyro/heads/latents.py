"""What a head reads: points, or posteriors by their mean and standard deviation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions.torch_distribution import TorchDistributionMixin

from vje_pyro.distributions.moments import moments
from vje_pyro.errors import NonFiniteError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Latents:
    """Diagonal Gaussians over z, one an image; points are those of variance 0."""

    loc: Floats  # means, (N, D)
    variance: Floats | None = None  # (N, D); None for points

    def __len__(self) -> int:
        return len(self.loc)

    def __getitem__(self, rows: Any) -> "Latents":
        return Latents(self.loc[rows], None if self.variance is None else self.variance[rows])

    def draw(self, rng: np.random.Generator) -> Floats:
        """One draw of every image, ``(N, D)``; the points themselves where there is no variance."""
        if self.variance is None:
            return self.loc
        return self.loc + np.sqrt(self.variance) * rng.standard_normal(self.loc.shape)


def as_latents(X: Any) -> Latents:
    """Read points or posteriors, in float64.

    Args:
        X: Points ``(N, D)``, an array or a tensor; or a pair ``(loc, scale)`` of these, as
            :func:`~vje_pyro.distributions.moments.moments` returns; or a distribution of batch
            shape ``(N,)`` and event shape ``(D,)``, of which the moments are taken.

    Raises:
        ValueError: If the shapes do not fit, or a scale is negative.
        NonFiniteError: If a number is NaN or infinite.
    """
    if isinstance(X, TorchDistributionMixin):
        X = moments(X)
    if not isinstance(X, tuple):
        return Latents(_matrix(X, "points"))
    if len(X) != 2:
        raise ValueError(f"a posterior is a pair (loc, scale), got a tuple of {len(X)}.")
    loc, scale = _matrix(X[0], "loc"), _matrix(X[1], "scale")
    if loc.shape != scale.shape:
        raise ValueError(f"loc has shape {loc.shape}, but scale {scale.shape}; they must agree.")
    if (scale < 0).any():
        raise ValueError(f"a scale is a standard deviation, got {scale.min()}; it must be ≥ 0.")
    return Latents(loc, np.square(scale) if scale.any() else None)


def _matrix(values: Any, name: str) -> Floats:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} must be a matrix (N, D) with images, got shape {matrix.shape}.")
    finite = np.atleast_1d(np.isfinite(matrix).all(axis=1))
    if not finite.all():
        raise NonFiniteError(
            f"{name}: {np.count_nonzero(~finite)} of {len(finite)} images have a NaN or infinite "
            f"value, the first is image {finite.argmin()}; leave them out or mend their source."
        )
    return matrix
