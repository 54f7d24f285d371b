"""The one input of every diagnostic: embeddings of two views of some images, and their method."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from vje_pyro.diagnostics._programs import hold_globals
from vje_pyro.distributions.moments import moments
from vje_pyro.embedding import embed_views
from vje_pyro.errors import VJEError
from vje_pyro.inference import Conditional, EmbeddingModel, Evidence, Joint


@dataclass(frozen=True)
class Pairs:
    """Embeddings of two views of N images, and the M data that a posterior of them is judged on.

    What is judged is the posterior that the method's objective uses:

    - of one view (the conditional objective, and methods without any): both orders of the views are
      data, M = 2N. Ordered pair v of image n has source view v and target view 1 − v, and stands at
      ``v N + n``.
    - of all views (all other objectives): images are data, M = N, in the model of which both views
      are observed.

    Args:
        method: A probabilistic method in evaluation mode, its parameters without gradient. Global
            latents are held at the means that its guide gives them.
        embeddings: What the guide reads and the likelihood scores, ``(2, N, D)`` float32.
        labels: Classes ``(N,)``, int64, -1 where unlabelled.
        classes: Names of the classes.
        indices: Where the images are in their split, ``(N,)``.
        split: Name of the split.
        joint: Whether the posterior is that of all views; None takes what the method's objective
            says.

    Raises:
        VJEError: If the method has no posterior (:func:`require_posterior`).
        ValueError: If the shapes do not fit together, there are no images, or the method is in
            training mode.
    """

    method: Any
    embeddings: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    indices: Tensor
    split: str
    joint: bool | None = None

    def __post_init__(self) -> None:
        require_posterior(self.method)
        shape = tuple(self.embeddings.shape)
        if len(shape) != 3 or shape[0] != 2 or 0 in shape:
            raise ValueError(f"embeddings must be (2, N, D) with N at least 1, got {shape}.")
        for name in ("labels", "indices"):
            if getattr(self, name).shape != shape[1:2]:
                raise ValueError(
                    f"{name} must have shape ({shape[1]},) for embeddings {shape}, got "
                    f"{tuple(getattr(self, name).shape)}."
                )
        if self.method.training:
            raise ValueError(
                f"the {type(self.method).__name__} is in training mode, where its batch norms "
                f"change with every use: call method.eval() first."
            )
        if self.joint is None:
            joint = not isinstance(self.method.objective, Conditional)
            object.__setattr__(self, "joint", joint)
        held = hold_globals(self.method, self.evidence(torch.zeros(1, dtype=torch.long)))
        object.__setattr__(self, "method", held)

    def __len__(self) -> int:
        return self.embeddings.shape[1]

    @property
    def num_features(self) -> int:
        """Embedding dimension D."""
        return self.embeddings.shape[2]

    @property
    def num_data(self) -> int:
        """Number M of data, 2N, or N where the posterior is that of all views."""
        return len(self.images)

    @property
    def images(self) -> Tensor:
        """Which image of the split each datum is of, ``(M,)``."""
        return self.indices if self.joint else self.indices.repeat(2)

    @property
    def source(self) -> Tensor:
        """What the posterior sees, view 0 then view 1 ``(2N, D)``, or both ``(2, N, D)``."""
        return self.embeddings if self.joint else self.embeddings.flatten(0, 1)

    @property
    def target(self) -> Tensor:
        """What the likelihood scores, view 1 then view 0 ``(2N, D)``, or both ``(2, N, D)``."""
        return self.embeddings if self.joint else self.embeddings.flip(0).flatten(0, 1)

    @torch.no_grad()
    def read(self, source: Tensor, target: Tensor) -> Evidence:
        """Arguments of both Pyro programs for sources and targets of any data, shaped as ours."""
        if self.joint:
            prior = self.method.prior_distribution()
            return Joint().evidence(self.method.infer, source, target, prior)
        posterior, scale = self.method.infer(source)
        return Evidence(posterior, scale, target)

    def evidence(self, data: Tensor) -> Evidence:
        """Arguments of both Pyro programs for some of the data, by their positions ``(m,)``."""
        return self.read(self.source[..., data, :], self.target[..., data, :])

    @cached_property
    def _evidence(self) -> Evidence:
        return self.read(self.source, self.target)

    @property
    def posterior(self) -> TorchDistribution:
        """``q(z | source)``: batch shape ``(M,)``, event shape ``(D,)``."""
        return self._evidence.posterior

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posteriors, ``(M, D)`` each; of a flow, estimated."""
        return moments(self.posterior)

    @property
    def scale(self) -> Tensor:
        """Scale of the directional factor in units of z, ``(2N, D)`` or ``(2, N, D)``."""
        return self._evidence.scale

    def arguments(self) -> Evidence:
        """Posterior, scale and target: the arguments of both Pyro programs, for a plate of M."""
        return self._evidence

    def one_view(self) -> "Pairs":
        """The same, where a posterior of one view predicts the other, whatever the objective."""
        return replace(self, joint=False)

    def double(self) -> "Pairs":
        """The same in float64."""
        method = copy.deepcopy(self.method).double()
        return replace(self, method=method, embeddings=self.embeddings.double())

    def subset(self, indices: Tensor | Sequence[int] | slice) -> "Pairs":
        """The same of some of the images, by their position in these pairs."""
        return replace(
            self,
            embeddings=self.embeddings[:, indices],
            labels=self.labels[indices],
            indices=self.indices[indices],
        )


def view_pairs(
    method: nn.Module,
    images: Tensor,
    make_views: Callable[[Tensor], Tensor],
    *,
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    split: str = "test",
    indices: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> Pairs:
    """Embed two random views of each image.

    Args:
        method: A probabilistic method. It is copied, so its mode and device stay as they are.
        images: uint8 images ``(N, C, H, W)``.
        make_views: From a batch of them to two normalised views, ``(2, B, C, H, W)``, such as
            :class:`vje_pyro.data.Views`.
        labels: Classes ``(N,)``, int64; None for unlabelled images.
        classes: Names of the classes.
        split: Name of the split.
        indices: Where the images are in their split; None counts from 0.
        seed: Of the views; the global random state is not touched.
        batch_size: Images a batch.

    Raises:
        VJEError: If the method has no posterior.
        ValueError: If there are no images, or other than two views are made.
    """
    method = require_posterior(method)
    if len(images) == 0:
        raise ValueError("there are no images to make pairs of views from.")

    def two_views(images: Tensor) -> Tensor:
        views = make_views(images)
        if len(views) != 2:
            raise ValueError(
                f"the diagnostics need two views of each image, but {len(views)} were made: "
                f"set num_views to 2."
            )
        return views

    batches = images.split(batch_size)
    embeddings = embed_views(method, method.encode, batches, two_views, 2, seed)
    return Pairs(
        method=copy.deepcopy(method).cpu().eval().requires_grad_(False),
        embeddings=embeddings,
        labels=torch.full((len(images),), -1) if labels is None else labels.cpu(),
        classes=tuple(classes),
        indices=torch.arange(len(images)) if indices is None else indices.cpu(),
        split=split,
    )


def require_posterior(method: object) -> EmbeddingModel:
    """Refuse a method that the diagnostics of inference make no sense for.

    Raises:
        VJEError: If the method is no model of embeddings.
    """
    if isinstance(method, EmbeddingModel):
        return method
    raise VJEError(
        f"{type(method).__name__} cannot be diagnosed: it is no EmbeddingModel. The diagnostics "
        f"check a posterior against its model: use a method such as VJE."
    )
