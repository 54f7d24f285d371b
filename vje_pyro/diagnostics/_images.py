"""Data by the image that they are of: the data of one image depend on each other."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from vje_pyro.statistics import bootstrap_mean


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Mean of the values ``(M, ...)`` of each image, ``(I, ...)``, by increasing index.

    Example:
        >>> import torch
        >>> per_image(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4, 9, 4]))
        tensor([2., 2.])
    """
    _, group, count = images.unique(return_inverse=True, return_counts=True)
    total = values.new_zeros(len(count), *values.shape[1:]).index_add(0, group, values)
    return total / count.view(-1, *[1] * (values.dim() - 1))


def mean_over_images(values: Tensor, images: Tensor) -> dict[str, Any]:
    """Mean of values ``(M,)`` of data, each image a unit, with its interval; for a JSON."""
    return asdict(bootstrap_mean(per_image(values.double(), images).cpu()))
