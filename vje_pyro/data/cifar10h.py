"""CIFAR-10H: what people see in the test images of CIFAR-10."""

from pathlib import Path

import torch
from torch import Tensor

from vje_pyro.data.array_files import open_arrays
from vje_pyro.errors import DataError

_SHAPE = 10_000, 10


def read_label_entropy(path: str | Path) -> Tensor:
    """Entropy of the human labels of every test image, in nats, ``(10000,)``, official order.

    Args:
        path: An npz file with ``probs``, ``(10000, 10)``: shares of the 47 to 63 judgements that
            an image got.

    Raises:
        DataError: If the file is absent or holds something else.

    Source: Peterson, Battleday, Griffiths & Russakovsky, "Human uncertainty makes classification
    more robust" (ICCV 2019).
    """
    if not Path(path).exists():
        raise DataError(f"no human labels at {Path(path).absolute()}.")
    try:
        with open_arrays(path) as stored:
            shares = torch.from_numpy(stored["probs"]).double()
    except DataError as error:
        raise DataError(f"{path}: not a readable file of human labels ({error}).") from error
    if shares.shape != _SHAPE or not ((shares.sum(1) - 1).abs() < 1e-6).all() or (shares < 0).any():
        raise DataError(
            f"{path}: 'probs' must be {_SHAPE} shares that sum to one, got shape "
            f"{tuple(shares.shape)}."
        )
    return torch.special.entr(shares).sum(1)
