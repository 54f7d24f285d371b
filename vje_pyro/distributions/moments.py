"""Mean and standard deviation of any distribution."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


@torch.no_grad()
def moments(distribution: TorchDistribution, num_samples: int = 1000) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, in closed form where there is one, else from samples.

    Args:
        distribution: Any distribution, such as a normalising flow, which has no moments of its own.
        num_samples: Draws to estimate from; their seed is fixed and the global one not touched.
    """
    try:
        return distribution.mean, distribution.stddev
    except NotImplementedError:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            total = square = torch.zeros(())
            # One draw at a time: a thousand of a whole data set would not fit.
            for _ in range(num_samples):
                draw = distribution.sample()
                total, square = total + draw, square + draw.square()
    mean = total / num_samples
    return mean, (square / num_samples - mean.square()).clamp(min=0).sqrt()
