"""What every method is: all that the trainer, evaluations and report know of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from vje_pyro.distributions.moments import moments
from vje_pyro.errors import VJEError

M = TypeVar("M", bound="Method")


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


class Inferred(NamedTuple):
    """What is inferred from N embeddings.

    Args:
        posterior: ``q(z | embedding)``, a Pyro distribution: batch shape ``(N,)``, event shape
            ``(D,)``.
        scale: Scale of the directional factor in units of z, positive, ``(N, D)``. Where it is
            shared with the guide it is the posterior's standard deviation.
    """

    posterior: Any
    scale: Tensor


class Method(nn.Module, ABC):
    """A self-supervised method: an encoder, and the loss that trains it.

    Args:
        encoder: Module from images ``(B, C, H, W)`` to ``(B, D)``, with an attribute
            ``num_features``, the embedding dimension D.

    Raises:
        ValueError: If the encoder does not say its ``num_features``, an integer from 1 on.
    """

    num_features: int
    """Embedding dimension D."""

    uses_labels: bool = False
    """Whether the trainer calls ``loss(views, labels)``: int64 ``(B,)``, −1 for unknown classes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.num_features = num_features_of(encoder)
        self.encoder = encoder

    @abstractmethod
    def loss(self, views: Tensor) -> Loss:
        """Loss of one batch of views, shape ``(V, B, C, H, W)``, normalised floats."""

    def embed(self, images: Tensor) -> Tensor:
        """Encoder output, ``(B, D)`` float32, of normalised images: the features to use."""
        embeddings: Tensor = self.encoder(images).float()
        return embeddings

    def after_step(self, progress: float) -> None:
        """What follows a step of the optimiser, such as moving a teacher; nothing by default.

        Args:
            progress: Steps done over all steps of the run, in (0, 1].
        """


class ProbabilisticMethod(Method):
    """A method with a posterior over a latent and a likelihood of the target embedding."""

    def encode(self, images: Tensor) -> Tensor:
        """What the posterior is inferred from, ``(B, D)`` float32: :meth:`embed` by default."""
        return self.embed(images)

    @abstractmethod
    def infer(self, embeddings: Tensor) -> Inferred:
        """Posterior, and its scale, of embeddings ``(N, D)`` that :meth:`encode` returned."""

    def posterior(self, images: Tensor) -> Any:
        """``q(z | image)``: a Pyro distribution, batch shape ``(B,)``, event shape ``(D,)``."""
        return self.infer(self.encode(images)).posterior

    def uncertainty(self, images: Tensor) -> Tensor:
        """Uncertainty about normalised images ``(B, C, H, W)``, ``(B,)``: higher is less certain.

        The mean over z's features of the log posterior standard deviation: of a diagonal Gaussian,
        up to a constant, the entropy in nats per dimension.
        """
        return moments(self.posterior(images))[1].log().mean(dim=-1)

    @abstractmethod
    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """ELBO terms of every pair of normalised images, in nats, each ``(B,)``.

        Args:
            source: Images ``(B, C, H, W)`` that the posterior is inferred from.
            target: Images whose embeddings are scored.
            num_samples: Latent samples that expectations without a closed form are averaged over.

        Returns:
            ``elbo``, ``kl``, and the expected log-likelihood of each factor by its name.
        """


def num_features_of(encoder: nn.Module) -> int:
    """Embedding dimension D of an encoder, which it says as ``num_features``.

    Raises:
        ValueError: If it does not say an integer from 1 on.
    """
    number: Any = getattr(encoder, "num_features", None)
    if not isinstance(number, int) or number < 1:
        raise ValueError(
            f"the encoder {type(encoder).__name__} must give its embedding dimension as the "
            f"attribute num_features, an integer from 1 on, got {number!r}."
        )
    return number


def require(method: object, kind: type[M]) -> M:
    """The method, if it is of a kind.

    Raises:
        VJEError: If it is not; the message names the class to inherit from.
    """
    if isinstance(method, kind):
        return method
    name = type(method).__name__
    if isinstance(method, Method):
        raise VJEError(f"{name} has no posterior: it is not probabilistic.")
    raise VJEError(
        f"{name} is not a method: it must inherit from vje_pyro.method.{kind.__name__} "
        f"(docs/tutorials/extend_the_model.md)."
    )


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
