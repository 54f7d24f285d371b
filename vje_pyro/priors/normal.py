"""The standard and the scaled normal prior."""

from pyro.distributions import Normal, TorchDistribution

from vje_pyro.priors.prior import Infer, Prior


class NormalPrior(Prior):
    """``z ~ Normal(0, scale² I)``; arguments and errors are those of every prior.

    Source: standard normal prior of Oji & Fieguth (arXiv 2602.05639).

    Example:
        >>> NormalPrior(4)(infer=None).event_shape
        torch.Size([4])
    """

    def forward(self, infer: Infer) -> TorchDistribution:
        """The normal distribution; ``infer`` is not used."""
        return Normal(self.zero, self.zero + self.scale).to_event(1)
