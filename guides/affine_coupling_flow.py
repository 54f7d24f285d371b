"""An amortised guide whose posterior is a normalising flow."""

from typing import Annotated

import torch
from annotated_types import Ge
from pyro.distributions import Independent, Normal, TransformedDistribution
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn

from vje_pyro.guides.amortised import AmortisedGuide, perceptron
from vje_pyro.method import Inferred
from vje_pyro.ranges import Depth, PositiveFloat, Width


class AffineCouplingFlow(AmortisedGuide):
    r"""Posterior :math:`q(z \mid s)`: a diagonal Gaussian of s, pushed through affine couplings.

    The couplings are shared by all data; which half of the features is transformed alternates. They
    start as the identity. The directional factor shares the Gaussian's scale. A flow has no closed
    KL, so the ELBO samples it. D is at least 2; other arguments and errors are those of
    :class:`AmortisedGuide`.

    Args:
        num_flows: Number of couplings, at least 1.
        flow_features: Width of the hidden layer of each coupling.

    Source: RealNVP, Dinh et al. (arXiv 1605.08803), as Pyro's ``AffineCoupling``; as a posterior
    Rezende & Mohamed (arXiv 1505.05770).
    """

    def __init__(
        self,
        num_features: int,
        num_flows: Annotated[Depth, Ge(1)] = 4,
        flow_features: Width = 256,
        hidden_features: Width = 512,
        num_layers: Depth = 1,
        min_scale: PositiveFloat = 1e-3,
        max_scale: PositiveFloat = 1e2,
    ) -> None:
        super().__init__(min_scale, max_scale)
        if num_features < 2 or num_flows < 1 or flow_features < 1:
            raise ValueError(
                f"a flow needs num_features of at least 2 and positive num_flows and "
                f"flow_features, got {num_features}, {num_flows} and {flow_features}."
            )
        self.network = perceptron(num_features, hidden_features, num_layers, 2 * num_features)
        self.couplings = nn.ModuleList(
            _coupling(num_features, flow_features) for _ in range(num_flows)
        )

    def infer(self, source: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings ``(N, D)``."""
        loc, raw = self.network(source).chunk(2, dim=-1)
        scale = self.bounded_scale(raw)
        # Reversed between the couplings, so that each half is transformed by the other in turn.
        reverse = Permute(torch.arange(loc.shape[-1] - 1, -1, -1, device=loc.device))
        transforms = [t for coupling in self.couplings for t in (coupling, reverse)]
        base = Independent(Normal(loc, scale), 1)
        return Inferred(TransformedDistribution(base, transforms), scale)


def _coupling(num_features: int, flow_features: int) -> AffineCoupling:
    split = num_features // 2
    rest = num_features - split
    network = DenseNN(split, [flow_features], [rest, rest])
    for parameter in network.layers[-1].parameters():
        nn.init.zeros_(parameter)
    return AffineCoupling(split, network)
