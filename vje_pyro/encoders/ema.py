"""A teacher that follows its student: the exponential moving average of its weights."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class EMATeacher(nn.Module):
    """A copy of a module whose weights are the moving average of the module's.

    The copy takes no gradient, and it is part of the state dictionary. Only weights are averaged:
    the teacher has batch statistics of its own, as in the authors' program, solo-learn's and
    lightly's.

    Source: Grill et al., "Bootstrap your own latent" (arXiv 2006.07733).

    Args:
        module: The student that the copy starts from.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        """What the copy makes of ``args``, without gradient."""
        return self.module(*args)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move every weight: ``teacher = momentum * teacher + (1 - momentum) * student``.

        Raises:
            ValueError: A momentum outside of [0, 1], or a student with other weights.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"the momentum of a teacher must be in [0, 1], got {momentum}")
        own: list[Tensor] = list(self.parameters())
        others: list[Tensor] = list(student.parameters())
        if [p.shape for p in own] != [p.shape for p in others]:
            raise ValueError(
                f"the teacher has {len(own)} weights and its student, a {type(student).__name__}, "
                f"{len(others)}, or their shapes differ: give the module it was copied from."
            )
        torch._foreach_lerp_(own, others, 1 - momentum)


def cosine_momentum(start: float, progress: float) -> float:
    r"""Momentum that grows from ``start`` to 1 along half a cosine.

    :math:`m = 1 - (1 - m_0)(\cos(\pi p) + 1) / 2`, Grill et al. (arXiv 2006.07733), section 3.3.

    Args:
        start: Momentum :math:`m_0` at the start of training.
        progress: Share p of the steps that are done, in [0, 1].

    >>> cosine_momentum(0.99, 0.0), cosine_momentum(0.99, 0.5), cosine_momentum(0.99, 1.0)
    (0.99, 0.995, 1.0)
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
