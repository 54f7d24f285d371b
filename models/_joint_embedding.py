"""What the baselines share: encoder and heads, views through them, lightly, a teacher."""

from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vje_pyro.encoders import EMATeacher, cosine_momentum
from vje_pyro.errors import VJEError
from vje_pyro.method import Loss, Method


def lightly(part: str) -> ModuleType:
    """The module ``lightly.<part>``; VJEError if it is not installed."""
    try:
        return import_module(f"lightly.{part}")
    except ImportError as error:
        raise VJEError(
            f"the baselines take their losses and heads from lightly, which cannot be imported "
            f"({error}): pip install 'vje-pyro[baselines]'."
        ) from error


class JointEmbedding(Method):
    """A method that compares the views' projections: encoder, projector, perhaps a predictor.

    A method says in :meth:`compare` what its loss is, and may have other :meth:`targets`. The
    encoder and every head run once per view, so that batch statistics are those of one view; what
    is compared is float32. The constructors of the methods make the heads, of lightly's, from these
    arguments.

    Args:
        encoder: As of :class:`~vje_pyro.method.Method`.
        projector: Head from ``(B, D)`` to ``(B, P)``.
        predictor: Head from ``(B, P)`` to ``(B, P)``; None compares the projections themselves.
        hidden_dim: Width of the projector's hidden layers.
        output_dim: Dimension P of the projections.
        num_layers: Linear layers of the projector.
        predictor_dim: Width of the predictor's hidden layer.
        temperature: What the cosines are divided by.

    Raises:
        VJEError: If lightly is not installed.
        ValueError: If a knob is outside of the range of its annotation.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module | None = None
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.predictor = predictor

    def loss(self, views: Tensor) -> Loss:
        """Loss of views ``(V, B, C, H, W)``; ValueError if V is below 2.

        Its monitor ``std`` is the spread of the projections' directions over the batch, as a
        fraction of that of directions spread evenly: 0 is collapse (Chen & He, arXiv 2011.10566,
        section 4.1).
        """
        if len(views) < 2:
            raise ValueError(
                f"{type(self).__name__} compares views: it needs at least 2, got {len(views)}."
            )
        projections = each(lambda view: self.projector(self.embed(view)), views)
        outputs = projections if self.predictor is None else each(self.predictor, projections)
        targets = self.targets(projections, views)
        with torch.autocast(views.device.type, enabled=False):
            total, parts = self.compare(outputs, targets)
        return Loss(total, parts, self.monitors(projections.detach(), outputs.detach()))

    def targets(self, projections: Tensor, views: Tensor) -> Tensor:
        """What the outputs are compared with, ``(V, B, P)``."""
        return projections

    def monitors(self, projections: Tensor, outputs: Tensor) -> dict[str, Tensor]:
        """What describes the step, of detached projections and outputs: the spread of the first."""
        return {"std": _spread(projections)}

    @abstractmethod
    def compare(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the detached terms that it is the sum of (or none).

        Args:
            outputs: Predictions where there is a predictor, else projections, ``(V, B, P)``.
            targets: From :meth:`targets`, ``(V, B, P)``.
        """


class TaughtJointEmbedding(JointEmbedding):
    """A joint embedding whose targets are projections by an EMA teacher of encoder and projector.

    Other arguments and errors are those of :class:`.JointEmbedding`.

    Args:
        momentum: Of the teacher at the start; it grows to 1 along a cosine.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module, momentum: float
    ) -> None:
        super().__init__(encoder, projector, predictor)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}.")
        self.momentum = momentum
        self.teacher = EMATeacher(self._student())

    def targets(self, projections: Tensor, views: Tensor) -> Tensor:
        """The teacher's projections, ``(V, B, P)``, without gradient."""
        return each(self.teacher, views)

    def after_step(self, progress: float) -> None:
        """Move the teacher towards its student."""
        self.teacher.update(self._student(), cosine_momentum(self.momentum, progress))

    def _student(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.projector)


def each(function: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
    """A function of every view by itself, stacked, float32."""
    return torch.stack([function(view) for view in views]).float()


def gathered(keys: Tensor, dim: int = 0) -> tuple[Tensor, int]:
    """Keys of all processes, joined along a dimension, and the place of this one's first."""
    dist = lightly("utils.dist")
    if dist.world_size() == 1:
        return keys, 0
    return torch.cat(dist.gather(keys.contiguous()), dim), dist.rank() * keys.shape[dim]


def mean(losses: list[Tensor]) -> Tensor:
    """Mean of scalar losses."""
    return torch.stack(losses).mean()


def require_positive(**values: float) -> None:
    """Refuse what is not positive, by a ValueError with its name and value."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")


def _spread(projections: Tensor) -> Tensor:
    directions = normalize(projections, dim=-1)
    return directions.std(dim=1).mean() * projections.shape[-1] ** 0.5
