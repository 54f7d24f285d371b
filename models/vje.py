"""Variational Joint Embedding: the Pyro program and the method around it."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vje_pyro.distributions._common import unit_vector
from vje_pyro.distributions.moments import moments
from vje_pyro.encoders import EMATeacher, cosine_momentum
from vje_pyro.guides import AmortisedGuide, Inferred
from vje_pyro.guides.amortised import check_inferred
from vje_pyro.inference import (
    Conditional,
    Evidence,
    Objective,
    SymmetricELBO,
    ViewPrograms,
    product_of_experts,
    stack_views,
)
from vje_pyro.method import Loss, evaluating
from vje_pyro.models.global_latents import GlobalLatents
from vje_pyro.priors import NormalPrior, Prior
from vje_pyro.ranges import NonNegativeFloat, Particles, PositiveFloat, PositiveInt, Probability

logger = logging.getLogger(__name__)

Likelihood = Callable[..., TorchDistribution]


class VJE(ViewPrograms):
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

    Raises:
        ValueError: If D is below 3, ``beta`` is negative, ``reference_radius`` is not positive, or
            ``target_grad`` or ``kl`` is unknown, or ``target_momentum`` is not in [0, 1] or takes
            the place of a gradient that should flow, or the guide needs another prior.
    """

    uses_labels: ClassVar[bool] = False
    """Whether the programs take the labels of the data as a last argument."""

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
        if target_momentum is not None and (target_grad == "flow" or not 0 <= target_momentum <= 1):
            raise ValueError(
                f"target_momentum must be in [0, 1], with target_grad='stop', or None, got "
                f"{target_momentum} with target_grad={target_grad!r}."
            )
        if reference_radius is not None and not 0 < reference_radius < math.inf:
            raise ValueError(
                f"reference_radius must be positive and finite, or None for √D, got "
                f"{reference_radius}."
            )
        self.encoder = encoder
        norm = partial(nn.BatchNorm1d, self.num_features, affine=False)
        self.norm = norm() if embedding_norm else None
        self.inference = guide(self.num_features)
        self.prior = prior(self.num_features)
        self.inference.check_prior(self.prior)
        self.reference_radius = reference_radius or math.sqrt(self.num_features)
        _check_likelihoods(direction, radius, self.num_features)
        self.direction = direction
        self.radius = radius
        self.objective = objective or Conditional()
        self.latents = latents
        self.alignment = alignment
        self.num_data = num_data
        estimate = self._choose_kl() if kl == "auto" else kl
        self.elbo = self.objective.bound(beta, num_particles, estimate)
        self.aggregate = aggregate
        self.target_grad = target_grad
        self.target_momentum = target_momentum
        self.teacher = None if target_momentum is None else EMATeacher(encoder)
        # In training only, so that it needs no running statistics.
        self.teacher_norm = norm(track_running_stats=False) if self.norm and self.teacher else None

    def generate(
        self, posterior: TorchDistribution, scale: Tensor, target: Tensor | None = None
    ) -> Tensor:
        """The model of a plate of data; without targets it generates them.

        Args:
            posterior: Not used: model and guide take the same arguments.
            scale: Scale of the directional factor in units of z, ``(N, D)``; or ``(T, N, D)`` for
                T views of each datum, in a plate ``view`` inside that of the data.
            target: Target embeddings, of the same shape.

        Returns:
            z, ``(N, D)``.
        """
        laws = self.latents.sample_prior() if self.latents else {"direction": {}, "radius": {}}
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
        """Sites of what z explains, direction and radius; arguments as of :meth:`generate`.

        Args:
            z: Latents of the data, ``(N, D)``.
            scale: As of :meth:`generate`.
            target: As of :meth:`generate`.
            laws: Parameters of the laws ``direction`` and ``radius`` beside their own.
        """
        laws = laws or {"direction": {}, "radius": {}}
        observed: tuple[Any, ...] = (None, None)
        if target is not None:
            observed = normalize(target, dim=-1), target.norm(dim=-1)
        # At 0, where an automatic guide may start, the direction is the first axis.
        loc, norm = unit_vector(z), z.norm(dim=-1).clamp(min=torch.finfo(z.dtype).tiny)
        with self.views_plate(scale):
            direction = self._direction(loc, scale, laws["direction"])
            pyro.sample("direction", direction, obs=observed[0])
            if self.radius is not None:
                pyro.sample("radius", self.radius(loc=norm, **laws["radius"]), obs=observed[1])

    def _direction(
        self, loc: Tensor, scale: Tensor, parameters: dict[str, Tensor]
    ) -> TorchDistribution:
        """The directional law, with the global latents among its parameters."""
        others = {name: value for name, value in parameters.items() if name != "scale"}
        factor = parameters["scale"][..., None] if "scale" in parameters else 1.0
        return self.direction(loc=loc, scale=factor * (scale / self.reference_radius), **others)

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
        with evaluating(self.inference):
            posterior = self.inference.infer(torch.zeros(1, self.num_features)).posterior
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

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings s after the batch norm, ``(B, D)`` float32, of normalised images."""
        return _in_float32(self.norm, self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Encoder output before the batch norm, ``(B, D)`` float32: the features to use."""
        return self.encoder(images).float()

    def pairs(self, views: Tensor, labels: Tensor | None = None) -> tuple[Any, ...]:
        """Posterior, directional scale and target of a plate of data, as the objective makes it.

        These are the arguments of both Pyro programs. From views ``(V, B, C, H, W)`` the plate
        of the conditional objective holds all V (V − 1) B ordered pairs; that of the joint one B
        images of V views each. Labels of the images, ``(B,)``, give a fourth: those of the data.
        """
        return self._data(*self._sources_and_targets(views), labels)

    def _data(self, sources: Tensor, targets: Tensor, labels: Tensor | None) -> tuple[Any, ...]:
        evidence = self.evidence(sources, targets)
        if labels is None:
            return evidence
        # In every plate, the data of one view or pair of views are the images in their order.
        return (*evidence, labels.repeat(evidence.scale.shape[-2] // len(labels)))

    def evidence(self, sources: Tensor, targets: Tensor) -> Evidence:
        """The same from the views' embeddings, ``(V, B, D)`` each."""
        return self.objective.evidence(self.infer, sources, targets, self.prior_distribution())

    def _sources_and_targets(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the views to infer from and to observe, both ``(V, B, D)``."""
        sources = torch.stack([self.encode(view) for view in views])
        if self.teacher is not None:
            with torch.no_grad():
                return sources, torch.stack([self._teach(view) for view in views])
        return sources, sources.detach() if self.target_grad == "stop" else sources

    def _teach(self, images: Tensor) -> Tensor:
        embedding = self.teacher(images).float()  # type: ignore[misc]
        return _in_float32(self.teacher_norm, embedding)

    def after_step(self, progress: float) -> None:
        """Move the teacher, if there is one; the training loop calls this."""
        if self.teacher is not None:
            momentum = cosine_momentum(self.target_momentum or 0.0, progress)
            self.teacher.update(self.encoder, momentum)

    def infer(self, embeddings: Tensor) -> Inferred:
        """Posterior and directional scale of source embeddings s, ``(N, D)``."""
        with torch.autocast(embeddings.device.type, enabled=False), self.params.held():
            inferred = self.inference.infer(embeddings)
        return check_inferred(self.inference, inferred, embeddings)

    def loss(self, views: Tensor, labels: Tensor | None = None) -> Loss:
        """Minus the symmetric ELBO per dimension, with its parts in nats per datum.

        Dividing by D carries a learning rate over between embedding dimensions. Where there is an
        ``aggregate`` regulariser, it is added to the total and is a part without unit.

        Args:
            views: ``(V, B, C, H, W)``.
            labels: Of the images, int64 ``(B,)``, −1 where there is none; only where
                ``uses_labels``.
        """
        sources, targets = self._sources_and_targets(views)
        observed = sources if self.alignment is None else sources.detach()
        total, parts, monitors = self.head(observed, targets, labels)
        if self.alignment is not None:
            bound, _, _ = self.alignment.head(sources, targets)  # type: ignore[operator]
            parts["alignment"] = bound.detach()
            total = total + bound
        if self.aggregate is not None:
            regulariser = _in_float32(self.aggregate, sources.flatten(0, 1))
            parts["aggregate"] = regulariser.detach()
            total = total + regulariser
        return Loss(total, parts, monitors)

    def head(
        self, sources: Tensor, targets: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """All that a step does with the views' embeddings ``(V, B, D)``, but the regulariser.

        Returns:
            Minus the symmetric ELBO per dimension, its parts, and the monitors.
        """
        data = self._data(sources, targets, labels)
        _, scale, target, *_ = data
        with torch.autocast(target.device.type, enabled=False):
            terms = self.elbo.terms(self.model, self.guide, *data)
            elbo = self.elbo.per_datum(terms).mean()
        parts = {"elbo": elbo.detach()} | {k: v.detach().mean() for k, v in terms.items()}
        # Per dimension of what a datum explains.
        explained = self.num_features * (len(target) if target.dim() == 3 else 1)
        return -elbo / explained, parts, self._monitors(scale.detach(), targets.detach())

    @torch.no_grad()
    def _monitors(self, scale: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Angle between the first views' embeddings in degrees, and the spread of the scale."""
        cosine = torch.cosine_similarity(targets[0], targets[1], dim=-1).clamp(-1, 1)
        return {
            "angle": torch.rad2deg(torch.acos(cosine)).mean(),
            "scale_mean": scale.mean(),
            "scale_std": (scale - scale.mean()).square().mean().sqrt(),  # std() takes far longer
            "clamp_fraction": self.inference.bound_fraction(scale),
        }

    def posterior(self, images: Tensor) -> TorchDistribution:
        """``q(z | image)`` of normalised images: batch shape ``(B,)``, event shape ``(D,)``."""
        return self.infer(self.encode(images)).posterior

    def posterior_of_views(self, views: Sequence[Tensor] | Tensor) -> TorchDistribution:
        """``q(z | views)`` of several views of each image: batch shape ``(B,)``, event ``(D,)``.

        Args:
            views: Normalised views ``(V, B, C, H, W)``.

        Raises:
            ValueError: If a view is missing, or guide or prior are not diagonal normal.
            NonFiniteError: If a view of an image is not finite.
        """
        return self.infer_views([self.encode(view) for view in stack_views(views)]).posterior

    def infer_views(self, embeddings: Sequence[Tensor] | Tensor) -> Inferred:
        """Posterior of each image, and directional scale of a further view, from several views.

        The scale is the harmonic mean of those that the views tell, in squares: precisions average.

        Args:
            embeddings: Of the views, ``(V, B, D)``.

        Returns:
            Posterior of batch shape ``(B,)`` and event shape ``(D,)``, and scale ``(B, D)``.

        Raises:
            ValueError: If a view is missing, or guide or prior are not diagonal normal.
            NonFiniteError: If an embedding is not finite.
        """
        sources = stack_views(embeddings)
        experts, scale = self.infer(sources.flatten(0, 1))
        present = torch.ones(len(sources), 1, 1, dtype=torch.bool, device=sources.device)
        posterior = product_of_experts(experts, self.prior_distribution(), present)
        return Inferred(posterior, scale.view_as(sources).pow(-2).mean(0).rsqrt())

    def uncertainty(self, images: Tensor) -> Tensor:
        """Spread of the posterior of normalised images ``(B, C, H, W)``: higher is less certain.

        The mean over z's features of the log posterior standard deviation, ``(B,)``: for a
        diagonal guide, up to a constant, the entropy in nats per dimension.
        """
        return moments(self.posterior(images))[1].log().mean(dim=-1)

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
        bound = SymmetricELBO(beta=1.0, num_particles=num_samples, kl=self.elbo.kl)
        inferred = self.infer(self.encode(source))
        terms = bound.terms(self.model, self.guide, *inferred, self.encode(target))
        return {"elbo": bound.per_datum(terms), **terms}


def _in_float32(module: nn.Module | None, embeddings: Tensor) -> Tensor:
    # Directions rounded to bfloat16 are off the sphere, and log-probabilities off by nats: from the
    # embeddings on everything is float32.
    with torch.autocast(embeddings.device.type, enabled=False):
        return embeddings if module is None else module(embeddings)


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
