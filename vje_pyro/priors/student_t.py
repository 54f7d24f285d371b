"""A heavy-tailed prior."""

import math

from pyro.distributions import StudentT, TorchDistribution

from vje_pyro.priors.prior import Infer, Prior
from vje_pyro.ranges import PositiveFloat


class StudentTPrior(Prior):
    """Features of z independent, each Student-t with ``df`` degrees of freedom around zero.

    Args:
        num_features: Dimension D of z.
        df: Degrees of freedom, positive.
        scale: Scale of every feature, positive.

    Raises:
        ValueError: If a parameter is not positive and finite.

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
        return StudentT(self.df, self.zero, self.zero + self.scale).to_event(1)
