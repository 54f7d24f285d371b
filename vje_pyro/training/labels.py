"""Labels of the training images, for methods that ask for them."""

from typing import Any

import torch
from torch import Tensor

from vje_pyro.errors import DataError
from vje_pyro.method import Method


def labels_for(method: Method, loader: Any, device: torch.device) -> tuple[Tensor, ...]:
    """The images' labels ``(N,)`` on the device, in a tuple; an empty one for other methods.

    Args:
        method: Asks by ``uses_labels`` (:class:`vje_pyro.method.Method`).
        loader: Has the ``labels`` of the images that its indices count, −1 where there is none.
        device: Where the steps run.

    Raises:
        DataError: If no image has a label.
    """
    if not method.uses_labels:
        return ()
    labels: Tensor = loader.labels
    if not (labels >= 0).any():
        raise DataError(
            f"{type(method).__name__} learns from labels, but none of the {len(labels)} training "
            f"images has one: take a data set with labels, or another method."
        )
    return (labels.to(device),)
