"""VICReg's variance and covariance terms on the aggregate of embeddings."""

from torch import Tensor, nn

from vje_pyro.inference._global_batch import global_mean, world_size
from vje_pyro.ranges import NonNegativeFloat


class VarianceCovariance(nn.Module):
    r"""Deviation of the aggregate's first two moments from those of N(0, I), times a weight.

    With C the covariance of the embeddings of the batch of all processes,

    .. math:: \frac1D \sum_k \max(0, 1 - \sqrt{C_{kk}}) + \frac1D \sum_{k \neq l} C_{kl}^2 .

    The mean and what is beyond second moments are free. After VJE's batch norm variances are one.

    Source: variance and covariance terms of VICReg (Bardes et al., arXiv 2105.04906, equations 1 to
    4), with one weight for both.

    Args:
        weight: Factor in the loss, non-negative. Ten times the default emptied the posterior of VJE
            (docs/appendix/recipe.md).

    Raises:
        ValueError: If ``weight`` is negative.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1000, 4)
        >>> term = VarianceCovariance(weight=1.0)
        >>> bool(term(x) < 0.1 < term(x + x.flip(1)))
        True
    """

    def __init__(self, weight: NonNegativeFloat = 1e-3) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}.")
        self.weight = weight

    def forward(self, embeddings: Tensor) -> Tensor:
        """Weight times both terms, a scalar, of embeddings ``(N, D)`` of each process."""
        number, dim = world_size() * len(embeddings), embeddings.shape[-1]
        centred = embeddings - global_mean(embeddings.mean(0))
        covariance = global_mean(centred.T @ centred / len(embeddings)) * number / (number - 1)
        variances = covariance.diagonal()
        # The square root has no gradient at zero, where all embeddings of a feature are one.
        deviations = (variances + 1e-4).sqrt()
        correlated = covariance.square().sum() - variances.square().sum()
        return self.weight * ((1 - deviations).clamp(min=0).sum() + correlated) / dim
