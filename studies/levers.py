"""Changes of VJE that the decision study tries (docs/appendix/decision.md), not in the library."""

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from vje_pyro.encoders import SmallResNet
from vje_pyro.inference import Objective
from vje_pyro.inference.objectives import Evidence, Infer
from vje_pyro.priors import Prior
from vje_pyro.priors.prior import Infer as InferPrior

HIDDEN = 1024


class Projected(SmallResNet):
    """A generative projector: the model is of e = g(h), the features to use are h."""

    def __init__(self, **sizes: object) -> None:
        super().__init__(**sizes)  # type: ignore[arg-type]
        dim = self.num_features
        self.projector = nn.Sequential(
            nn.Linear(dim, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, dim),
        )  # fmt: skip

    def backbone(self, images: Tensor) -> Tensor:
        """h, ``(B, D)``."""
        return super().forward(images)

    def forward(self, images: Tensor) -> Tensor:
        """e, ``(B, D)``."""
        return self.projector(self.backbone(images))


class LearnedPrior(Prior):
    """``z ~ Normal(0, diag(scale²))`` with a learned scale for every feature."""

    def __init__(self, num_features: int, scale: float = 1.0) -> None:
        super().__init__(num_features, scale)
        self.log_scale = nn.Parameter(torch.full((num_features,), scale).log())

    def forward(self, infer: InferPrior) -> TorchDistribution:
        """The normal distribution; ``infer`` is not used."""
        return Normal(self.zero, self.log_scale.exp()).to_event(1)


class MeanTarget(Objective):
    """z from one view explains the mean of the other views' embeddings, at their mean radius.

    Source: FastSiam (Pototzky et al., 2022), the mean of several views as the target.
    """

    def evidence(
        self, infer: Infer, sources: Tensor, targets: Tensor, prior: TorchDistribution
    ) -> Evidence:
        """Every view is a datum; ``prior`` is not used."""
        posterior, scale = infer(sources.flatten(0, 1))
        others = targets.sum(0) - targets
        radius = targets.norm(dim=-1, keepdim=True)
        radius = (radius.sum(0) - radius) / (len(targets) - 1)
        target = nn.functional.normalize(others, dim=-1) * radius
        return Evidence(posterior, scale, target.flatten(0, 1))
