"""MC-InfoNCE: contrast samples of a law of directions, with a concentration per image."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, VonMisesFisher
from vje_pyro.distributions._common import unit_vector
from vje_pyro.method import Inferred, num_features_of
from vje_pyro.models._concentration import Concentration, DirectionalMethod
from vje_pyro.models._joint_embedding import (
    JointEmbedding,
    gathered,
    lightly,
    mean,
    require_positive,
)
from vje_pyro.ranges import Depth, Particles, PositiveFloat, Width


class MCInfoNCE(DirectionalMethod, JointEmbedding):
    r"""Infer a law of directions from every view; a sample of it finds that of the other view.

    With f the encoder, g the projector and κ a network beside it, the posterior of the image's
    direction is

    .. math:: q(z \mid x) = \text{law}(loc = g(f(x))/\|g(f(x))\|,\ concentration = \kappa(f(x))).

    S samples of every view are drawn; of all views of two of each image in the batch of all
    processes, sample i of the anchor x finds sample i of the other view :math:`x^+`,

    .. math::

        \mathcal L = -\log \frac1S \sum_{i=1}^S
            \frac{e^{z_i \cdot z_i^+ / T}}{\sum_{m} e^{z_i \cdot z_{m,i} / T}},

    averaged over anchors and pairs of views, with m over all views but the anchor. With κ without
    bound it is SimCLR's loss. An image that others are taken for gains by samples that spread, so κ
    learns how ambiguous an image is: :meth:`uncertainty` is :math:`-\log\kappa`.

    The loss is the InfoNCE estimate of the log density ratio of a model in which z is uniform on
    the sphere and the other view's direction is von Mises–Fisher around z with concentration 1/T;
    :meth:`log_likelihood` has the terms of its ELBO.

    Source: Kirchhof, Kasneci & Oh, "Probabilistic Contrastive Learning Recovers the Correct
    Aleatoric Uncertainty of Ambiguous Inputs" (arXiv 2302.02865): the loss, up to a constant, 1/T
    as :math:`\kappa_{pos}`. This project's: κ as a network on the encoder's output, its bounds, a
    fixed T, SimCLR's head and negatives, and the power spherical law, whose samples carry exact
    gradients.

    Other arguments and errors are those of :class:`.JointEmbedding`.

    Args:
        law: Class of the posterior, called with ``loc`` and ``concentration``, whose samples carry
            gradients: :class:`~vje_pyro.distributions.PowerSpherical`.
        hidden_dim: Width of the projector's hidden layers and of that of the network of κ.
        temperature: T, what the cosines are divided by.
        num_particles: Samples S of every view and step.
        max_ratio: κ/P is kept softly between the inverse of this and this.

    Raises:
        ValueError: Also if ``output_dim`` is below 3, or the law has no ``rsample``.
    """

    projector: "_NaturalParameter"

    def __init__(
        self,
        encoder: nn.Module,
        law: Callable[..., TorchDistribution] = PowerSpherical,
        hidden_dim: Width = 2048,
        output_dim: Annotated[Width, Ge(3)] = 256,
        num_layers: Depth = 2,
        temperature: PositiveFloat = 0.2,
        num_particles: Particles = 16,
        max_ratio: Annotated[float, Gt(1)] = 1e3,
    ) -> None:
        heads = lightly("models.modules.heads")
        require_positive(
            hidden_dim=hidden_dim, temperature=temperature, num_particles=num_particles
        )
        if output_dim < 3:
            raise ValueError(f"output_dim must be at least 3, got {output_dim}.")
        if not law(loc=torch.eye(output_dim)[0], concentration=1.0).has_rsample:
            name = getattr(getattr(law, "func", law), "__name__", law)
            raise ValueError(
                f"law must have samples with gradients (rsample); {name} has none, "
                f"PowerSpherical has."
            )
        sizes = num_features_of(encoder), hidden_dim, output_dim
        super().__init__(
            encoder,
            _NaturalParameter(
                heads.SimCLRProjectionHead(*sizes, num_layers), Concentration(*sizes, max_ratio)
            ),
        )
        self.law = law
        self.output_dim = output_dim
        self.temperature = temperature
        self.num_particles = num_particles

    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class; the outputs are natural parameters κ times the location."""
        samples = self._posterior(outputs).rsample((self.num_particles,))  # (S, V, B, P)
        # By a list of indices, each pair would be copied from the host.
        pairs = combinations(samples.unbind(1), 2)
        return mean([self._contrast(torch.cat(pair, dim=1)) for pair in pairs]), {}

    def _contrast(self, samples: Tensor) -> Tensor:
        """The loss of samples ``(S, 2B, P)``: both views of every image, one view first."""
        keys, first = gathered(samples, dim=1)
        anchors = torch.arange(samples.shape[1], device=samples.device)
        logits = samples @ keys.mT / self.temperature
        logits[:, anchors, first + anchors] = -math.inf
        other_view = first + anchors.roll(len(anchors) // 2)
        found = logits.log_softmax(-1)[:, anchors, other_view]
        return math.log(len(samples)) - found.logsumexp(0).mean()

    def monitors(self, projections: Tensor, outputs: Tensor) -> dict[str, Tensor]:
        """Besides the base's: the mean of κ, and the share of κ within 5 % of a bound."""
        kappa = outputs.norm(dim=-1)
        return {
            **super().monitors(projections, outputs),
            "concentration": kappa.mean(),
            "clamp_fraction": self.projector.concentration.clamp_fraction(kappa),
        }

    def infer(self, embeddings: Tensor) -> Inferred:
        """Posterior, and its scale in units of the unit sphere, of embeddings ``(N, D)``."""
        posterior = self._posterior(self.projector(embeddings))
        return Inferred(posterior, posterior.scale)

    def _posterior(self, outputs: Tensor) -> TorchDistribution:
        """The law of natural parameters ``(..., P)``."""
        return self.law(loc=normalize(outputs, dim=-1), concentration=outputs.norm(dim=-1))

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """Terms of every pair of images, in nats, each ``(B,)``; nothing is sampled.

        Returns:
            ``direction``, the expected log density of the target's location under the von
            Mises–Fisher law of concentration 1/T around z; ``kl``, the posterior's divergence from
            the uniform prior; and ``elbo``, their difference.
        """
        posterior = self.posterior(source)
        direction = self.posterior(target).mode
        # The log density is linear in z: that of z = target, less the shortfall of the mean cosine.
        likelihood = VonMisesFisher(direction, concentration=1 / self.temperature)
        shortfall = 1 - (posterior.mean * direction).sum(-1)
        expected = likelihood.log_prob(direction) - shortfall / self.temperature
        kl = kl_divergence(posterior, self.prior())
        return {"elbo": expected - kl, "direction": expected, "kl": kl}


class _NaturalParameter(nn.Module):
    """From embeddings e to κ(e) g(e)/‖g(e)‖: the direction is the location, the length κ."""

    def __init__(self, head: nn.Module, concentration: Concentration) -> None:
        super().__init__()
        self.head = head
        self.concentration = concentration

    def forward(self, embeddings: Tensor) -> Tensor:
        """Of embeddings ``(N, D)`` float32, ``(N, P)`` float32."""
        # Directions rounded to bfloat16 are off the sphere.
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.concentration(embeddings)[:, None] * unit_vector(self.head(embeddings))
