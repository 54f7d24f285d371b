"""Models of embeddings: a latent z of an image generates what an encoder makes of its views."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from vje_pyro.encoders import EMATeacher, cosine_momentum
from vje_pyro.inference.experts import product_of_experts, stack_views
from vje_pyro.inference.objectives import Conditional, Evidence, Objective
from vje_pyro.inference.programs import ViewPrograms
from vje_pyro.method import Inferred, Loss


class EmbeddingModel(ViewPrograms):
    """Pyro programs whose data are embeddings of views.

    Model and guide take posterior, scale and target of a plate of data; the objective makes the
    plate from the views. The diagnostics of inference are for these methods.

    Args:
        encoder: As of :class:`~vje_pyro.method.Method`.
        objective: Which views the posterior of an image sees, and which of them it explains;
            :class:`~vje_pyro.inference.Conditional`, the paper's, if None.
        embedding_norm: Batch norm without affine on the encoder output, so that ‖s‖ ≈ √D.
        target_grad: ``"stop"`` observes the target; ``"flow"`` lets gradient into it (it collapses:
            for study only).
        target_momentum: Targets are the embeddings of a teacher, the moving average of the encoder,
            with this momentum at the start of training and 1 at its end, along half a cosine (Grill
            et al., arXiv 2006.07733). None takes the encoder's own embeddings, as every evaluation
            does.
        projector: Module from features ``(B, D)`` to the embeddings that are modelled, ``(B, D)``;
            None models the features themselves.

    Raises:
        ValueError: If ``target_grad`` is unknown, or ``target_momentum`` is not in [0, 1] or takes
            the place of a gradient that should flow.
    """

    inference: nn.Module
    """Infers posterior and scale of embeddings."""
    direction: Callable[..., TorchDistribution] | None
    """Law of the direction, called with ``loc`` and ``scale``; None where it is fixed."""
    radius: Callable[..., TorchDistribution] | None
    """Law of the radius, called with ``loc``; None where it is not modelled."""
    reference_radius: float = 1.0
    """Radius of z that its scale is divided by to become the scale of the direction."""

    def __init__(
        self,
        encoder: nn.Module,
        objective: Objective | None = None,
        embedding_norm: bool = True,
        target_grad: Literal["stop", "flow"] = "stop",
        target_momentum: float | None = None,
        projector: nn.Module | None = None,
    ) -> None:
        super().__init__(encoder)
        if target_grad not in ("stop", "flow"):
            raise ValueError(f"target_grad must be 'stop' or 'flow', got {target_grad!r}.")
        if target_momentum is not None and (target_grad == "flow" or not 0 <= target_momentum <= 1):
            raise ValueError(
                f"target_momentum must be in [0, 1], with target_grad='stop', or None, got "
                f"{target_momentum} with target_grad={target_grad!r}."
            )
        self.objective = objective or Conditional()
        self.elbo = self.objective.bound()
        self.direction = self.radius = None
        self.target_grad = target_grad
        self.target_momentum = target_momentum
        self.projector = projector
        norm = partial(nn.BatchNorm1d, self.num_features, affine=False)
        self.norm = norm() if embedding_norm else None
        self.teacher = None if target_momentum is None else EMATeacher(self._student())
        # In training only, so that it needs no running statistics.
        self.teacher_norm = norm(track_running_stats=False) if self.norm and self.teacher else None

    @abstractmethod
    def prior_distribution(self) -> TorchDistribution:
        """``p(z)``: batch shape ``()``, event shape ``(D,)``."""

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings s after projector and batch norm, ``(B, D)`` float32, of normalised images."""
        features = self.embed(images)
        embeddings = features if self.projector is None else self.projector(features).float()
        return in_float32(self.norm, embeddings)

    def sources_and_targets(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the views to infer from and to observe, both ``(V, B, D)``."""
        sources = torch.stack([self.encode(view) for view in views])
        if self.teacher is None:
            return sources, sources.detach() if self.target_grad == "stop" else sources
        with torch.no_grad():
            taught = [in_float32(self.teacher_norm, self.teacher(view).float()) for view in views]
        return sources, torch.stack(taught)

    def after_step(self, progress: float) -> None:
        """Move the teacher, if there is one."""
        if self.teacher is not None:
            momentum = cosine_momentum(self.target_momentum or 0.0, progress)
            self.teacher.update(self._student(), momentum)

    def _student(self) -> nn.Module:
        if self.projector is None:
            return self.encoder
        return nn.Sequential(self.encoder, self.projector)

    def pairs(self, views: Tensor, labels: Tensor | None = None) -> tuple[Any, ...]:
        """Posterior, directional scale and target of a plate of data, as the objective makes it.

        These are the arguments of both Pyro programs, from views ``(V, B, C, H, W)``. Labels of the
        images, ``(B,)``, give a fourth: those of the data.
        """
        return self.data(*self.sources_and_targets(views), labels)

    def data(self, sources: Tensor, targets: Tensor, labels: Tensor | None) -> tuple[Any, ...]:
        """What :meth:`pairs` returns, from the views' embeddings, ``(V, B, D)`` each."""
        evidence = self.evidence(sources, targets)
        if labels is None:
            return evidence
        # In every plate, the data of one view or pair of views are the images in their order.
        return (*evidence, labels.repeat(evidence.scale.shape[-2] // len(labels)))

    def evidence(self, sources: Tensor, targets: Tensor) -> Evidence:
        """The same without labels."""
        return self.objective.evidence(self.infer, sources, targets, self.prior_distribution())

    def loss(self, views: Tensor, labels: Tensor | None = None) -> Loss:
        """Minus the bound per dimension: :meth:`head` of the views' embeddings.

        Args:
            views: ``(V, B, C, H, W)``.
            labels: Of the images, int64 ``(B,)``, −1 where there is none; only where
                ``uses_labels``.
        """
        return self.head(*self.sources_and_targets(views), labels)

    def head(self, sources: Tensor, targets: Tensor, labels: Tensor | None = None) -> Loss:
        """Minus the bound per dimension of what a datum explains, its parts in nats per datum.

        Dividing by D carries a learning rate over between embedding dimensions.

        Args:
            sources: Embeddings to infer from, ``(V, B, D)``.
            targets: Embeddings to observe, ``(V, B, D)``.
            labels: Of the images.
        """
        data = self.data(sources, targets, labels)
        _, scale, target, *_ = data
        elbo, parts = self.bound(*data)
        explained = self.num_features * (len(target) if target.dim() == 3 else 1)
        return Loss(-elbo / explained, parts, self.monitors(scale.detach(), targets.detach()))

    def monitors(self, scale: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What describes a step, from the directional scale and the embeddings observed."""
        return {}

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """See the base; the factors are the observed sites, and β is 1."""
        return self.terms(num_samples, *self.infer(self.encode(source)), self.encode(target))

    def posterior_of_views(self, views: Sequence[Tensor] | Tensor) -> TorchDistribution:
        """``q(z | views)`` of normalised views ``(V, B, C, H, W)``: batch ``(B,)``, event ``(D,)``.

        Raises:
            ValueError: If a view is missing, or guide or prior are not diagonal normal.
            NonFiniteError: If a view of an image is not finite.
        """
        return self.infer_views([self.encode(view) for view in stack_views(views)]).posterior

    def infer_views(self, embeddings: Sequence[Tensor] | Tensor) -> Inferred:
        """Posterior of each image, and directional scale of a further view, from several views.

        The scale is the harmonic mean of those that the views tell, in squares: precisions average.
        Errors are those of :meth:`posterior_of_views`.

        Args:
            embeddings: Of the views, ``(V, B, D)``.

        Returns:
            Posterior of batch shape ``(B,)`` and event shape ``(D,)``, and scale ``(B, D)``.
        """
        sources = stack_views(embeddings)
        experts, scale = self.infer(sources.flatten(0, 1))
        present = torch.ones(len(sources), 1, 1, dtype=torch.bool, device=sources.device)
        posterior = product_of_experts(experts, self.prior_distribution(), present)
        return Inferred(posterior, scale.view_as(sources).pow(-2).mean(0).rsqrt())


def in_float32(module: nn.Module | None, embeddings: Tensor) -> Tensor:
    """Embeddings through a module, if there is one, without autocast.

    Directions rounded to bfloat16 are off the sphere, and log-probabilities off by nats.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        return embeddings if module is None else module(embeddings)
