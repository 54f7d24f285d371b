"""A heavy-tailed prior."""

import math

import torch
from pyro.distributions import Gamma, StudentT, TorchDistribution
from torch import Tensor
from torch.distributions import Distribution

from vje_pyro.distributions._common import Shape
from vje_pyro.priors.prior import Infer, Prior
from vje_pyro.ranges import PositiveFloat


class StudentTPrior(Prior):
    """Features of z independent, each Student-t with ``df`` degrees of freedom around zero.

    Other arguments and errors are those of :class:`Prior`.

    Args:
        df: Degrees of freedom, positive.

    Source: this project.
    """

    def __init__(
        self, num_features: int, df: PositiveFloat = 5.0, scale: PositiveFloat = 1.0
    ) -> None:
        super().__init__(num_features, scale)
        if not 0 < df < math.inf:
            raise ValueError(f"df must be positive and finite, got {df}.")
        self.df = df

    def forward(self, infer: Infer) -> TorchDistribution:
        """The product of Student-t distributions; ``infer`` is not used."""
        df = torch.full_like(self.zero, self.df)
        return _StudentT(df, self.zero, self.zero + self.scale).to_event(1)


class _StudentT(StudentT):
    """torch's, whose chi-squared law would copy its rate from the host at every step."""

    def __init__(
        self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = df, loc, scale
        self._chi2 = Gamma(df / 2, torch.full_like(df, 0.5))
        Distribution.__init__(self, df.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: "_StudentT | None" = None) -> "_StudentT":
        return super().expand(batch_shape, self._get_checked_instance(_StudentT, _instance))
