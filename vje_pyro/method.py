"""The protocol that every method obeys: all that the trainer, evaluations and report know."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class Loss(NamedTuple):
    """What one training step returns.

    Args:
        total: Scalar to minimise, with gradient.
        parts: Named detached scalars, means over the batch's data; in nats where the method is
            probabilistic (``elbo``, ``direction``, ``radius``, ``kl``), else as the method says.
        monitors: Named detached scalars that describe the step but are not terms of the loss
            (``angle`` in degrees, ``scale_mean``, ``clamp_fraction`` …).
    """

    total: Tensor
    parts: Mapping[str, Tensor] = MappingProxyType({})
    monitors: Mapping[str, Tensor] = MappingProxyType({})


@runtime_checkable
class Method(Protocol):
    """A self-supervised method: an ``nn.Module`` that also has these members."""

    num_features: int
    """Embedding dimension D."""

    def loss(self, views: Tensor) -> Loss:
        """Loss of one batch of views, shape ``(V, B, C, H, W)``, normalised floats."""

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, D)``, float32, of normalised images ``(B, C, H, W)``."""


@runtime_checkable
class LabelledMethod(Method, Protocol):
    """A method that learns from labels, too: the trainer calls ``loss(views, labels)``.

    ``labels`` is int64 ``(B,)``, −1 where the class of an image is not known. Other methods are
    given none.
    """

    uses_labels: bool
    """Whether it does."""


@runtime_checkable
class SteppedMethod(Method, Protocol):
    """A method that does something after every optimiser step, such as moving a teacher."""

    def after_step(self, progress: float) -> None:
        """Called by the training loop once a step, after the weights have moved.

        Args:
            progress: Steps done over all steps of the run, in (0, 1].
        """


@runtime_checkable
class ProbabilisticMethod(Method, Protocol):
    """A method with a posterior over a latent and a likelihood of the target embedding."""

    def encode(self, images: Tensor) -> Tensor:
        """What the posterior is inferred from, ``(B, D)`` float32, of normalised images."""

    def infer(self, embeddings: Tensor) -> Any:
        """An object whose ``posterior`` is that of embeddings which :meth:`encode` returned."""

    def posterior(self, images: Tensor) -> Any:
        """``q(z | image)``: a Pyro distribution, batch shape ``(B,)``, event shape ``(D,)``."""

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """Per-datum ELBO terms in nats, each ``(B,)``: ``elbo``, ``kl`` and one per factor."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards each submodule is in its own mode again."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode
