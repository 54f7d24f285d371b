"""Sliced Wasserstein distance of the aggregate of embeddings from the standard normal prior."""

import torch
from torch import Tensor, nn

from vje_pyro.checking import check_values
from vje_pyro.inference._global_batch import global_rows, random_directions
from vje_pyro.ranges import NonNegativeFloat, Particles


class SlicedWasserstein(nn.Module):
    r"""Squared sliced 2-Wasserstein distance of a sample from N(0, I), times N and a weight.

    In one dimension the optimal transport sorts: with :math:`x_{(1)} \le \dots \le x_{(N)}` the
    projections on a random direction, drawn anew in every call,

    .. math:: T = \sum_n \big(x_{(n)} - \Phi^{-1}\big((n - \tfrac12)/N\big)\big)^2

    averaged over directions. A regulariser as :class:`~vje_pyro.inference.SlicedEppsPulley` is.

    Source: Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures" (2015); as a pull
    of an aggregate to a prior, Kolouri et al., "Sliced Wasserstein auto-encoders" (ICLR 2019).

    Args:
        weight: Factor in the loss, non-negative.
        num_directions: Random directions.

    Raises:
        ValueError: If ``weight`` is negative or ``num_directions`` below one.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> distance = SlicedWasserstein(weight=1.0)
        >>> near, far = distance(torch.randn(500, 8)), distance(5 + torch.randn(500, 8))
        >>> bool(near < 10 < far)
        True
    """

    def __init__(self, weight: NonNegativeFloat = 5e-4, num_directions: Particles = 256) -> None:
        super().__init__()
        check_values(SlicedWasserstein.__init__, locals())
        self.weight = weight
        self.num_directions = num_directions

    def forward(self, embeddings: Tensor) -> Tensor:
        """Weight times the distance, a scalar, of embeddings ``(N, D)`` of each process."""
        sample = global_rows(embeddings @ random_directions(embeddings, self.num_directions))
        number = len(sample)
        levels = torch.arange(number, dtype=sample.dtype, device=sample.device)
        quantiles = torch.special.ndtri((levels + 0.5) / number)
        distance = (sample.sort(dim=0).values - quantiles[:, None]).square().sum(0)
        return self.weight * distance.mean()
