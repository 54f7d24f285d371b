"""KL from a Gaussian with correlated features to a distribution of independent ones."""

from torch import Tensor
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
    register_kl,
)


@register_kl(MultivariateNormal, Independent)
@register_kl(LowRankMultivariateNormal, Independent)
def _kl_to_independent(p: MultivariateNormal | LowRankMultivariateNormal, q: Independent) -> Tensor:
    """KL of the marginals, which alone E_p log q depends on, and the total correlation of p."""
    marginals = Independent(Normal(p.mean, p.stddev), 1)
    return kl_divergence(marginals, q) + marginals.entropy() - p.entropy()
