"""Variational Joint Embedding: the Pyro program and the method around it."""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions._common import unit_vector
from vje_pyro.guides import AmortisedGuide
from vje_pyro.guides.amortised import check_inferred, perceptron
from vje_pyro.inference import EmbeddingModel, Objective
from vje_pyro.inference.embedding_model import in_float32
from vje_pyro.method import Inferred, Loss, evaluating, num_features_of
from vje_pyro.models.global_latents import GlobalLatents
from vje_pyro.priors import NormalPrior, Prior
from vje_pyro.ranges import NonNegativeFloat, Particles, PositiveFloat, PositiveInt, Probability

logger = logging.getLogger(__name__)

Likelihood = Callable[..., TorchDistribution]


class VJE(EmbeddingModel):
    r"""A latent z generates the direction and the radius of the other view's embedding.

    For the source embedding :math:`s_i` and the target embedding :math:`s_j` of one image, with
    :math:`u_j = s_j / \|s_j\|` and :math:`r_j = \|s_j\|`,

    .. math::

        z &\sim N(0, I) \\
        u_j \mid z &\sim \text{direction}(loc = z/\|z\|,\ scale = \sigma(s_i)/\sqrt D) \\
        r_j \mid z &\sim \text{radius}(loc = \|z\|) \\
        q(z \mid s_i) &= N(\mu(s_i), diag\,\sigma^2(s_i))

    Prior, guide and both factors are components: any of them can be another.

    :meth:`model` and :meth:`guide` are Pyro programs on views, and also on what :meth:`pairs` reads
    from them, which runs the encoder once per view: posterior, scale and target. To train with
    torch::

        loss = method.loss(views).total            # what the trainer does
        elbo = SymmetricELBO()(method.model, method.guide)
        loss = elbo(*method.pairs(views))          # the same, spelled out

    and with classic Pyro::

        svi = pyro.infer.SVI(method.model, method.guide, optim, loss=SymmetricELBO())
        svi.step(views)

    ``objective`` says which views the posterior of an image sees and which it explains: one latent
    can explain all views of its image. The bound's data are embeddings that the encoder makes.
    Where one latent explains views that its posterior has seen, an exact posterior leaves the
    encoder no gradient: the mean already is where the density of the data is highest. There
    ``alignment`` trains the encoder, and the bound is that of a model of its embeddings.

    A subclass makes another model (``docs/tutorials/extend_the_model.md``): :meth:`generate` is the
    program, :meth:`plate` the data and :meth:`observe` what z explains. With ``uses_labels = True``
    the trainer gives it the images' labels too.

    Source: Oji & Fieguth, "Joint Embedding Variational Bayes" (arXiv 2602.05639), whose abstract
    asks for these parts; the exact factors and the scale :math:`\sigma/\sqrt D` are this project's.

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with attribute ``num_features``.
        guide: Called with D, gives the :class:`~vje_pyro.guides.AmortisedGuide`.
        direction: Class or partial of the directional factor, called with ``loc`` and ``scale``.
        radius: Class or partial of the radial factor, called with ``loc``; None leaves it out.
        prior: Called with D, gives the :class:`~vje_pyro.priors.Prior` of z.
        beta: Weight of the KL term.
        num_particles: Latent samples per datum and step.
        embedding_norm: Batch norm without affine on the encoder output, so that ‖s‖ ≈ √D.
        aggregate: Regulariser of the embeddings s of all views, ``(V B, D)``, that is added to the
            loss; it is no part of the bound. None leaves it out.
        target_grad: ``"stop"`` observes the target; ``"flow"`` lets gradient into it (it
            collapses: for study only).
        target_momentum: Targets are the embeddings of a teacher, the moving average of the encoder,
            with this momentum at the start of training and 1 at its end, along half a cosine
            (Grill et al., arXiv 2006.07733). None takes the encoder's own embeddings, as every
            evaluation does.
        kl: ``"analytic"``, ``"sample"``, or ``"auto"``: analytic if there is a closed form for this
            guide and this prior, else sampled, which is then said in the log.
        reference_radius: Radius of z that σ is divided by to become the scale of the direction;
            None is √D, the radius that the standard normal prior gives z.
        objective: :class:`~vje_pyro.inference.Conditional`, the paper's, if None;
            :class:`~vje_pyro.inference.Joint`, :class:`~vje_pyro.inference.Subsets` or
            :class:`~vje_pyro.inference.Predictive`.
        latents: Parameters of the laws that are inferred with z; None fixes all of them.
        alignment: Another VJE of the same embeddings (its encoder is
            :class:`~vje_pyro.encoders.Identity`), whose bound trains the encoder; the own bound
            then has no gradient into it. None trains the encoder by the own bound.
        num_data: Data of the whole data set, where there are global latents: what a mini-batch
            says of these is scaled up to it. Of the joint objectives a datum is an image; of the
            conditional one an ordered pair of views, and of the predictive one a view. None takes
            the mini-batch for the whole.
        projector_dim: Hidden width of a generative projector g: the model is of e = g(h), with h
            the encoder's output, and h are the features to use. None models h itself.

    Raises:
        ValueError: If D is below 3, ``beta`` is negative, ``reference_radius`` is not positive, or
            ``target_grad`` or ``kl`` is unknown, or ``target_momentum`` is not in [0, 1] or takes
            the place of a gradient that should flow, or the guide needs another prior.
    """

    inference: AmortisedGuide
    direction: Likelihood

    def __init__(
        self,
        encoder: nn.Module,
        guide: Callable[[int], AmortisedGuide],
        direction: Likelihood,
        radius: Likelihood | None,
        prior: Callable[[int], Prior] = NormalPrior,
        beta: NonNegativeFloat = 1.0,
        num_particles: Particles = 1,
        embedding_norm: bool = True,
        aggregate: nn.Module | None = None,
        target_grad: Literal["stop", "flow"] = "stop",
        target_momentum: Probability | None = None,
        kl: Literal["auto", "analytic", "sample"] = "auto",
        reference_radius: PositiveFloat | None = None,
        objective: Objective | None = None,
        latents: GlobalLatents | None = None,
        alignment: nn.Module | None = None,
        num_data: PositiveInt | None = None,
        projector_dim: PositiveInt | None = None,
    ) -> None:
        dim = num_features_of(encoder)
        projector = None if projector_dim is None else perceptron(dim, projector_dim, 1, dim)
        super().__init__(
            encoder, objective, embedding_norm, target_grad, target_momentum, projector
        )
        if self.num_features < 3:
            raise ValueError(
                f"VJE needs an embedding dimension of at least 3, got {self.num_features}: widen "
                f"the encoder."
            )
        if reference_radius is not None and not 0 < reference_radius < math.inf:
            raise ValueError(
                f"reference_radius must be positive and finite, or None for √D, got "
                f"{reference_radius}."
            )
        self.inference = guide(self.num_features)
        self.prior = prior(self.num_features)
        self.inference.check_prior(self.prior)
        self.reference_radius = reference_radius or math.sqrt(self.num_features)
        _check_likelihoods(direction, radius, self.num_features)
        self.direction = direction
        self.radius = radius
        self.latents = latents
        self.alignment = alignment
        self.num_data = num_data
        estimate = self._choose_kl() if kl == "auto" else kl
        self.elbo = self.objective.bound(beta, num_particles, estimate)
        self.aggregate = aggregate

    def generate(
        self, posterior: TorchDistribution, scale: Tensor, target: Tensor | None = None
    ) -> Tensor:
        """The model of a plate of data; without targets it generates them.

        Args:
            posterior: Not used: model and guide take the same arguments.
            scale: Scale of the directional factor in units of z, ``(N, D)``; or ``(T, N, D)`` for T
                views of each datum, in a plate ``view`` inside that of the data.
            target: Target embeddings, of the same shape.

        Returns:
            z, ``(N, D)``.
        """
        laws = self.latents.sample_prior() if self.latents else None
        with self.plate(scale):
            z: Tensor = pyro.sample("z", self.prior_distribution())
            self.observe(z, scale, target, laws)
        return z

    def observe(
        self,
        z: Tensor,
        scale: Tensor,
        target: Tensor | None,
        laws: dict[str, dict[str, Tensor]] | None = None,
    ) -> None:
        """Sites of what z explains, direction and radius; other arguments as of :meth:`generate`.

        Args:
            z: Latents of the data, ``(N, D)``.
            scale: As of :meth:`generate`.
            target: As of :meth:`generate`.
            laws: Global latents of the laws ``direction`` and ``radius``: parameters by name, a
                ``scale`` of the direction as a factor on that of the guide.
        """
        laws = laws or {"direction": {}, "radius": {}}
        direction = radius = None
        if target is not None:
            direction, radius = normalize(target, dim=-1), target.norm(dim=-1)
        # At 0, where an automatic guide may start, the direction is the first axis.
        loc, norm = unit_vector(z), z.norm(dim=-1).clamp(min=torch.finfo(z.dtype).tiny)
        parameters = {"loc": loc, **laws["direction"], "scale": scale / self.reference_radius}
        if "scale" in laws["direction"]:
            parameters["scale"] = laws["direction"]["scale"][..., None] * parameters["scale"]
        with self.views_plate(scale):
            pyro.sample("direction", self.direction(**parameters), obs=direction)
            if self.radius is not None:
                pyro.sample("radius", self.radius(loc=norm, **laws["radius"]), obs=radius)

    def plate(self, scale: Tensor) -> pyro.plate:
        """The data of a step, as a part of ``num_data`` where that is known."""
        number = scale.shape[-2]
        if self.num_data is None:
            return pyro.plate("data", number, dim=-1)
        part = torch.arange(number, device=scale.device)
        return pyro.plate("data", max(self.num_data, number), subsample=part, dim=-1)

    def views_plate(self, scale: Tensor) -> AbstractContextManager[Any]:
        """The views of each datum, inside the plate of data, where ``scale`` has several."""
        return pyro.plate("view", len(scale), dim=-2) if scale.dim() == 3 else nullcontext()

    def approximate(
        self,
        posterior: TorchDistribution,
        scale: Tensor,
        target: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The guide: z of every datum from its posterior, and the global latents from theirs.

        ``labels`` and ``target`` are not used: model and guide take the same arguments.
        """
        if self.latents:
            self.latents.sample_guide()
        with self.plate(scale):
            return pyro.sample("z", posterior)

    def prior_distribution(self) -> TorchDistribution:
        """``p(z)``: batch shape ``()``, event shape ``(D,)``."""
        with self.params.held():
            return self.prior(self._pseudo_posterior)

    def _pseudo_posterior(self, embeddings: Tensor) -> TorchDistribution:
        # Pseudo-embeddings are no data: they must not move the guide's batch statistics.
        with evaluating(self.inference):
            return self.inference.infer(embeddings).posterior

    @torch.no_grad()
    def _choose_kl(self) -> str:
        posterior = self._pseudo_posterior(torch.zeros(1, self.num_features))
        try:
            kl_divergence(posterior, self.prior_distribution())
        except NotImplementedError:
            logger.info(
                "kl      sampled: no closed form for %s and %s",
                type(self.inference).__name__,
                type(self.prior).__name__,
            )
            return "sample"
        return "analytic"

    def infer(self, embeddings: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings s, ``(N, D)``."""
        with torch.autocast(embeddings.device.type, enabled=False), self.params.held():
            inferred = self.inference.infer(embeddings)
        return check_inferred(self.inference, inferred, embeddings)

    def loss(self, views: Tensor, labels: Tensor | None = None) -> Loss:
        """The bound's loss, and that of ``alignment`` and ``aggregate``, a part without unit."""
        sources, targets = self.sources_and_targets(views)
        observed = sources if self.alignment is None else sources.detach()
        total, bound_parts, monitors = self.head(observed, targets, labels)
        parts = dict(bound_parts)
        if self.alignment is not None:
            bound, _, _ = self.alignment.head(sources, targets)  # type: ignore[operator]
            parts["alignment"] = bound.detach()
            total = total + bound
        if self.aggregate is not None:
            regulariser = in_float32(self.aggregate, sources.flatten(0, 1))
            parts["aggregate"] = regulariser.detach()
            total = total + regulariser
        return Loss(total, parts, monitors)

    @torch.no_grad()
    def monitors(self, scale: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Angle between the first views' embeddings in degrees, and the spread of the scale."""
        cosine = torch.cosine_similarity(targets[0], targets[1], dim=-1).clamp(-1, 1)
        return {
            "angle": torch.rad2deg(torch.acos(cosine)).mean(),
            "scale_mean": scale.mean(),
            "scale_std": (scale - scale.mean()).square().mean().sqrt(),  # std() takes far longer
            "clamp_fraction": self.inference.bound_fraction(scale),
        }


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
