"""Variational Joint Embedding: the Pyro program and the method around it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import normalize

from vje_pyro.inference import SymmetricELBO, ordered_pairs
from vje_pyro.method import Loss

Likelihood = Callable[..., TorchDistribution]


class AmortisedGuide(Protocol):
    """What VJE asks of a guide: a module with these methods, itself a Pyro program."""

    def posterior(self, source: Tensor) -> TorchDistribution:
        """``q(z | source)``: batch shape ``(N,)``, event shape ``(D,)``, from embeddings (N, D)."""

    def bound_fraction(self, posterior: TorchDistribution) -> Tensor:
        """Fraction of the scales at a bound of the guide's own, a scalar tensor."""

    def __call__(self, posterior: TorchDistribution, target: Tensor | None = None) -> Tensor:
        """Sample site ``z`` of every datum."""


class VJE(nn.Module):
    r"""A latent z generates the direction and the radius of the other view's embedding.

    For the source embedding :math:`s_i` and the target embedding :math:`s_j` of one image, with
    :math:`u_j = s_j / \|s_j\|` and :math:`r_j = \|s_j\|`,

    .. math::

        z &\sim N(0, I) \\
        u_j \mid z &\sim \text{direction}(loc = z/\|z\|,\ scale = \sigma(s_i)/\sqrt D) \\
        r_j \mid z &\sim \text{radius}(loc = \|z\|) \\
        q(z \mid s_i) &= N(\mu(s_i), diag\,\sigma^2(s_i))

    :meth:`model` and :meth:`guide` are Pyro programs on (posterior, target); :meth:`pairs` makes
    these from views, and runs the encoder once per view. To train with torch::

        loss = method.loss(views).total            # what the trainer does
        elbo = SymmetricELBO()(method.model, method.guide)
        loss = elbo(*method.pairs(views))          # the same, spelled out

    and with classic Pyro::

        svi = pyro.infer.SVI(method.model, method.guide, optim, loss=SymmetricELBO())
        svi.step(*method.pairs(views))

    Source: Oji & Fieguth, "Joint Embedding Variational Bayes" (arXiv 2602.05639), whose abstract
    asks for these parts; the exact factors and the scale :math:`\sigma/\sqrt D` are this project's.

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with attribute ``num_features``.
        guide: Called with D, gives the amortised guide (:class:`AmortisedGuide`).
        direction: Class or partial of the directional factor, called with ``loc`` and ``scale``.
        radius: Class or partial of the radial factor, called with ``loc``; None leaves it out.
        beta: Weight of the KL term.
        num_particles: Latent samples per datum and step.
        embedding_norm: Batch norm without affine on the encoder output, so that ‖s‖ ≈ √D.
        aggregate: Regulariser of the embeddings s of all views, ``(V B, D)``, that is added to the
            loss; it is no part of the bound. None leaves it out.
        target_grad: ``"stop"`` observes the target; ``"flow"`` lets gradient into it (it
            collapses: for study only).

    Raises:
        ValueError: If D is below 3, ``beta`` is negative or ``target_grad`` unknown.
    """

    def __init__(
        self,
        encoder: nn.Module,
        guide: Callable[[int], AmortisedGuide],
        direction: Likelihood,
        radius: Likelihood | None,
        beta: float = 1.0,
        num_particles: int = 1,
        embedding_norm: bool = True,
        aggregate: nn.Module | None = None,
        target_grad: str = "stop",
    ) -> None:
        super().__init__()
        self.num_features: int = encoder.num_features  # type: ignore[assignment]
        if self.num_features < 3:
            raise ValueError(
                f"VJE needs an embedding dimension of at least 3, got {self.num_features}: widen "
                f"the encoder."
            )
        if target_grad not in ("stop", "flow"):
            raise ValueError(f"target_grad must be 'stop' or 'flow', got {target_grad!r}.")
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(self.num_features, affine=False) if embedding_norm else None
        self.inference: AmortisedGuide = guide(self.num_features)
        _check_likelihoods(direction, radius, self.num_features)
        self.direction = direction
        self.radius = radius
        self.elbo = SymmetricELBO(beta=beta, num_particles=num_particles)
        self.aggregate = aggregate
        self.target_grad = target_grad

    def model(self, posterior: TorchDistribution, target: Tensor) -> None:
        """The Pyro model of a plate of data: targets ``(N, D)`` given the scales of q."""
        with pyro.plate("data", len(target), dim=-1):
            zero = target.new_zeros(self.num_features)
            z = pyro.sample("z", Normal(zero, zero + 1).to_event(1))
            radius = z.norm(dim=-1)
            scale = posterior.stddev / math.sqrt(self.num_features)
            direction = self.direction(loc=z / radius[..., None], scale=scale)
            pyro.sample("direction", direction, obs=normalize(target, dim=-1))
            if self.radius is not None:
                pyro.sample("radius", self.radius(loc=radius), obs=target.norm(dim=-1))

    def guide(self, posterior: TorchDistribution, target: Tensor | None = None) -> Tensor:
        """The Pyro guide: z of every datum from its posterior."""
        return self.inference(posterior, target)

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings s after the batch norm, ``(B, D)`` float32, of normalised images."""
        return self._normalize_embedding(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Encoder output before the batch norm, ``(B, D)`` float32: the features to use."""
        return self.encoder(images).float()

    def _normalize_embedding(self, embedding: Tensor) -> Tensor:
        # Directions rounded to bfloat16 are off the sphere, and log-probabilities off by nats:
        # from here on everything is float32.
        with torch.autocast(embedding.device.type, enabled=False):
            return embedding if self.norm is None else self.norm(embedding)

    def pairs(self, views: Tensor) -> tuple[TorchDistribution, Tensor]:
        """Posterior of every source and its target, from views ``(V, B, C, H, W)``.

        The plate holds all V (V − 1) B ordered pairs.
        """
        return self._pairs(self._encode_views(views))

    def _encode_views(self, views: Tensor) -> Tensor:
        return torch.stack([self.encode(view) for view in views])

    def _pairs(self, embeddings: Tensor) -> tuple[TorchDistribution, Tensor]:
        source, target = ordered_pairs(embeddings)
        with torch.autocast(source.device.type, enabled=False):
            posterior = self.inference.posterior(source)
        return posterior, target.detach() if self.target_grad == "stop" else target

    def loss(self, views: Tensor) -> Loss:
        """Minus the symmetric ELBO per dimension, with its parts in nats per datum.

        Dividing by D carries a learning rate over between embedding dimensions. Where there is an
        ``aggregate`` regulariser, it is added to the total and is a part without unit.
        """
        embeddings = self._encode_views(views)
        posterior, target = self._pairs(embeddings)
        with torch.autocast(target.device.type, enabled=False):
            terms = self.elbo.terms(self.model, self.guide, posterior, target)
            elbo = self.elbo.per_datum(terms).mean()
            parts = {"elbo": elbo.detach()} | {k: v.detach().mean() for k, v in terms.items()}
            total = -elbo / self.num_features
            if self.aggregate is not None:
                regulariser = self.aggregate(embeddings.flatten(0, 1))
                parts["aggregate"] = regulariser.detach()
                total = total + regulariser
        return Loss(
            total=total,
            parts=parts,
            monitors=self._monitors(posterior, target.detach(), len(views)),
        )

    @torch.no_grad()
    def _monitors(
        self, posterior: TorchDistribution, target: Tensor, num_views: int
    ) -> dict[str, Tensor]:
        """Angle between the views' embeddings in degrees, and the spread of the posterior scale."""
        # Blocks of B data are ordered by shift and view: the first two are different views.
        batch = len(target) // (num_views * (num_views - 1))
        first, second = target[:batch], target[batch : 2 * batch]
        cosine = torch.cosine_similarity(first, second, dim=-1).clamp(-1, 1)
        scale = posterior.stddev
        return {
            "angle": torch.rad2deg(torch.acos(cosine)).mean(),
            "scale_mean": scale.mean(),
            "scale_std": scale.std(),
            "clamp_fraction": self.inference.bound_fraction(posterior),
        }

    def posterior(self, images: Tensor) -> TorchDistribution:
        """``q(z | image)`` of normalised images: batch shape ``(B,)``, event shape ``(D,)``."""
        return self.inference.posterior(self.encode(images))

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """ELBO terms of every pair of images, in nats, each ``(B,)``.

        Args:
            source: Normalised images ``(B, C, H, W)`` that the posterior is inferred from.
            target: Normalised images whose embeddings are scored.
            num_samples: Latent samples that the expectations are averaged over.

        Returns:
            Expected log-likelihoods ``direction`` and ``radius`` (where modelled), ``kl``, and
            their sum ``elbo`` (with β = 1).
        """
        bound = SymmetricELBO(beta=1.0, num_particles=num_samples)
        terms = bound.terms(self.model, self.guide, self.posterior(source), self.encode(target))
        return {"elbo": bound.per_datum(terms), **terms}


def _check_likelihoods(direction: Likelihood, radius: Likelihood | None, dim: int) -> None:
    """Make both factors once with validation on: during training their parameters go unchecked."""
    loc = torch.eye(dim)[0]
    factors = {"direction": partial(direction, loc=loc, scale=torch.ones(dim))}
    if radius is not None:
        factors["radius"] = partial(radius, loc=torch.ones(()))
    for name, factor in factors.items():
        try:
            factor(validate_args=True)
        except ValueError as error:
            raise ValueError(f"the likelihood of the {name} cannot be used: {error}") from error
