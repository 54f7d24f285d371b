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
    """KL of the marginals and the total correlation of p, where q has independent features.

    E_p log q depends on the marginals alone. In closed form where that of a normal feature is;
    where it is not, ``kl_divergence`` of the marginals says so. With a factor of rank r in
    O(D r²).
    """
    marginals = Independent(Normal(p.mean, p.stddev), 1)
    return kl_divergence(marginals, q) + marginals.entropy() - p.entropy()
