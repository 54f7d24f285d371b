"""VI-SimSiam: SimSiam whose prediction is a law of directions, with a concentration per image."""

import math
from collections.abc import Callable
from typing import Annotated

import pyro
import torch
from annotated_types import Ge, Gt
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical
from vje_pyro.guides.amortised import perceptron
from vje_pyro.inference import SymmetricELBO, ViewPrograms, ordered_pairs
from vje_pyro.method import Inferred, Loss
from vje_pyro.models._concentration import Concentration, DirectionalMethod
from vje_pyro.ranges import NonNegativeFloat, Width


class VISimSiam(DirectionalMethod, ViewPrograms):
    r"""From one view, predict a law of the direction that the other view's projection takes.

    The latent z is a direction on :math:`S^{P-1}`. With f the encoder, g the projector, h the
    predictor, :math:`s_i = g(f(x_i))`, and :math:`u_j = s_j/\|s_j\|` observed (stop-gradient),

    .. math::

        p(z \mid x_i) &= \text{law}(loc = h(s_i)/\|h(s_i)\|,\ concentration = \kappa(s_i)) \\
        \mathcal L &= \log p(z = u_j \mid x_i)
            - \beta\, KL\big(p(z \mid x_i)\,\|\,\text{uniform}\big)

    averaged over all ordered pairs of views, in nats; the optimiser minimises
    :math:`-\mathcal L / P`. With a constant κ and the von Mises–Fisher law it is SimSiam's loss up
    to scale; a predicted κ says how well the other views can be predicted: :meth:`uncertainty` is
    :math:`-\log\kappa`.

    As a Pyro program: the paper's :math:`E_{q(z|x_j)} \log p(z \mid x_i)` has for q the branch
    without gradient. That q is a point, so z is observed at site ``direction`` of :meth:`model`,
    and :meth:`guide` samples nothing. The second term is the factor ``concentration``. So any ELBO
    of Pyro gives the objective without a draw.

    Source: Nakamura, Okada & Taniguchi, "Representation Uncertainty in Self-Supervised Learning as
    Variational Inference" (arXiv 2203.11437): a power spherical posterior with a concentration per
    image, on SimSiam's two branches (Chen & He, arXiv 2011.10566). This project's: κ from a network
    beside the predictor, its bounds, the point posterior, and the term with β.

    Args:
        encoder: As of :class:`~vje_pyro.method.Method`.
        law: Class of the predicted law, called with ``loc`` and ``concentration``:
            :class:`~vje_pyro.distributions.PowerSpherical` or
            :class:`~vje_pyro.distributions.VonMisesFisher`.
        hidden_dim: Width of the projector's two hidden layers.
        output_dim: Dimension P of the projection, and of z.
        predictor_dim: Width of the hidden layer of the predictor and of the network of κ.
        beta: Weight of the divergence from the uniform prior; 0 leaves it out.
        max_ratio: κ/P is kept softly between the inverse of this and this.

    Raises:
        ValueError: If ``output_dim`` is below 3, a width is not positive, ``beta`` is negative or
            ``max_ratio`` not above 1.
    """

    def __init__(
        self,
        encoder: nn.Module,
        law: Callable[..., TorchDistribution] = PowerSpherical,
        hidden_dim: Width = 2048,
        output_dim: Annotated[Width, Ge(3)] = 2048,
        predictor_dim: Width = 512,
        beta: NonNegativeFloat = 0.0,
        max_ratio: Annotated[float, Gt(1)] = 1e3,
    ) -> None:
        super().__init__(encoder)
        if output_dim < 3 or hidden_dim < 1:
            raise ValueError(
                f"output_dim must be at least 3 and hidden_dim positive, got {output_dim} and "
                f"{hidden_dim}."
            )
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be finite and not negative, got {beta}.")
        self.projector = _projector(self.num_features, hidden_dim, output_dim)
        self.predictor = perceptron(output_dim, predictor_dim, 1, output_dim)
        self.concentration = Concentration(output_dim, predictor_dim, output_dim, max_ratio)
        self.law = law
        self.output_dim = output_dim
        self.beta = beta
        self.elbo = SymmetricELBO()

    def generate(self, posterior: TorchDistribution, target: Tensor | None = None) -> None:
        """The Pyro model of a plate of pairs; without targets it generates directions.

        Args:
            posterior: Predicted laws ``p(z | source)``: batch shape ``(N,)``, event shape ``(P,)``.
            target: Projections of the other views, ``(N, P)``.
        """
        direction = None if target is None else normalize(target, dim=-1)
        with pyro.plate("data", posterior.batch_shape[0], dim=-1):
            pyro.sample("direction", posterior, obs=direction)
            pyro.factor("concentration", -self.beta * self._information(posterior))

    def approximate(self, posterior: TorchDistribution, target: Tensor | None = None) -> None:
        """The Pyro guide, empty: z is observed, because the other branch gives a point."""

    def _information(self, posterior: TorchDistribution) -> Tensor:
        """Divergence of predicted laws from the uniform prior, in nats, ``(N,)``."""
        return kl_divergence(posterior, self.prior())

    def encode(self, images: Tensor) -> Tensor:
        """Projections s, ``(B, P)`` float32, of normalised images."""
        embedding = self.embed(images)
        # Directions rounded to bfloat16 are off the sphere: from here on everything is float32.
        with torch.autocast(embedding.device.type, enabled=False):
            return self.projector(embedding)

    def infer(self, embeddings: Tensor) -> Inferred:
        """Predicted law, and its scale in units of the unit sphere, of projections ``(N, P)``."""
        with torch.autocast(embeddings.device.type, enabled=False):
            loc = normalize(self.predictor(embeddings), dim=-1)
            posterior = self.law(loc=loc, concentration=self.concentration(embeddings))
            return Inferred(posterior, posterior.scale)

    def pairs(self, views: Tensor) -> tuple[TorchDistribution, Tensor]:
        """Predicted law and target of the V (V − 1) B ordered pairs of ``(V, B, C, H, W)``."""
        source, target = ordered_pairs(torch.stack([self.encode(view) for view in views]))
        return self.infer(source).posterior, target.detach()

    def loss(self, views: Tensor) -> Loss:
        """Minus the objective per dimension of z, with its parts in nats per pair.

        The part ``kl`` is the divergence of the predicted laws from the uniform prior. The monitors
        are ``concentration``, the mean κ; ``cosine`` between prediction and target; ``std``, the
        spread of the directions in units of an even one, 0 if collapsed; and ``clamp_fraction``,
        the share of κ within 5 % (in log units) of a bound.
        """
        posterior, target = self.pairs(views)
        with torch.autocast(target.device.type, enabled=False):
            terms = self._terms(posterior, target)
        parts = {name: term.detach().mean() for name, term in terms.items()}
        total = -terms["elbo"].mean() / self.output_dim
        return Loss(total, parts, self._monitors(posterior, target))

    @torch.no_grad()
    def _monitors(self, posterior: TorchDistribution, target: Tensor) -> dict[str, Tensor]:
        direction, kappa = normalize(target, dim=-1), posterior.concentration
        return {
            "concentration": kappa.mean(),
            "cosine": (posterior.mode * direction).sum(-1).mean(),
            "std": direction.std(dim=0).mean() * self.output_dim**0.5,
            "clamp_fraction": self.concentration.clamp_fraction(kappa),
        }

    def _terms(self, posterior: TorchDistribution, target: Tensor) -> dict[str, Tensor]:
        terms = self.elbo.terms(self.model, self.guide, posterior, target)
        return {
            "elbo": self.elbo.per_datum(terms),
            "direction": terms["direction"],
            "kl": self._information(posterior),
        }

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """Terms of every pair of images, in nats, each ``(B,)``; nothing is sampled.

        Returns:
            ``direction``, the log density of the target's projection under the law predicted from
            the source; ``kl``, the law's divergence from the uniform prior; ``elbo``, ``direction``
            less β ``kl``.
        """
        return self._terms(self.posterior(source), self.encode(target))


def _projector(num_features: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """SimSiam's projector: three layers, all with batch norm, that of the output without affine."""
    return nn.Sequential(
        nn.Linear(num_features, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, output_dim, bias=False),
        nn.BatchNorm1d(output_dim, affine=False),
    )
