"""A constraint and a type shared by the distributions."""

import torch
from torch import Tensor
from torch.distributions import constraints

Shape = torch.Size | list[int] | tuple[int, ...]


class _PositiveFinite(constraints.Constraint):
    """Positive and finite: degrees of freedom, where infinity would be another distribution."""

    def check(self, value: Tensor) -> Tensor:
        return (value > 0) & torch.isfinite(value)


positive_finite = _PositiveFinite()
