"""Random directions that a sample is projected on."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.inference._global_batch import shared


def random_directions(embeddings: Tensor, number: int) -> Tensor:
    """Unit vectors in columns, ``(D, number)``, the same in all processes, for ``(N, D)``."""
    shape = (embeddings.shape[-1], number)
    drawn = torch.randn(shape, dtype=embeddings.dtype, device=embeddings.device)
    return normalize(shared(drawn), dim=0)
