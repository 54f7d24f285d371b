"""Figures of the representation during training: online kNN, RankMe, spread, active units.

References:
    * [Garrido2023] Q. Garrido et al. RankMe: Assessing the downstream performance of pretrained
      self-supervised representations by their rank. ICML 2023.
    * [Chen2021] X. Chen, K. He. Exploring simple Siamese representation learning. CVPR 2021.
    * [Burda2016] Y. Burda, R. Grosse, R. Salakhutdinov. Importance weighted autoencoders.
      ICLR 2016.
    * [Wu2018] Z. Wu et al. Unsupervised feature learning via non-parametric instance
      discrimination. CVPR 2018. (the weighted kNN)
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from vje_pyro.distributions._common import Directional
from vje_pyro.distributions.moments import moments
from vje_pyro.embedding import map_batches
from vje_pyro.method import Method, ProbabilisticMethod
from vje_pyro.ranges import PositiveInt, Seed
from vje_pyro.training.collapse import CollapseAlarm

Score = Callable[[Tensor, Tensor, Tensor, Tensor], float]
"""``score(bank_x, bank_y, query_x, query_y)``: accuracy of kNN (tensors on the CPU)."""


class ImageSplit(Protocol):
    """Images in memory, ``uint8 (N, C, H, W)``, and labels, ``int64 (N,)``, -1 where unknown."""

    images: Tensor
    labels: Tensor


def rankme(embeddings: Tensor) -> float:
    """Effective rank, 1 to min(n, D): exp of the entropy of the singular values [Garrido2023]."""
    x = embeddings.double()
    if not x.isfinite().all():
        return float("nan")
    # The smaller Gram matrix has the same non-zero spectrum and is much cheaper than an SVD.
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    shares = singular / singular.sum().clamp_min(torch.finfo(x.dtype).tiny) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def embedding_std(embeddings: Tensor) -> float:
    """Spread of the unit-length embeddings ``(n, D)``, in units of an even spread [Chen2021].

    √D times the standard deviation over the images, averaged over the features: 1 if the directions
    are spread evenly, 0 if all images share one.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    return float(unit.std(dim=0).mean() * unit.shape[1] ** 0.5)


def active_units(means: Tensor, threshold: float = 0.01) -> float:
    """Fraction of latent features whose posterior mean, ``(n, D)``, varies [Burda2016]."""
    return float((means.float().var(dim=0) > threshold).float().mean())


def monitor_split(size: int, bank: int, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """Disjoint indices, int64, for the kNN bank and the queries, drawn from ``size`` images.

    ``queries`` is at most a fifth of them, or 2.

    Raises:
        ValueError: Fewer than 5 images, or nothing to be drawn.
    """
    if size < 5 or bank < 1 or queries < 2:  # the spread of one is unknown
        raise ValueError(
            f"monitoring needs at least 5 images, 1 for the bank and 2 queries; got {size} images, "
            f"bank={bank}, queries={queries}"
        )
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    queries = min(queries, max(2, size // 5))
    return order[queries : queries + bank], order[:queries]


class Monitor:
    """Measures a method on a fixed part of the *train* split (never on the test split).

    Args:
        data: Images to draw from, e.g. ``source.split("train")``.
        normalize: Turns ``uint8 (B, C, H, W)`` into the method's input.
        score: Accuracy of kNN; None, or labels that are unknown, leave ``knn`` out.
        bank: Most images in the kNN bank.
        queries: Most images whose label is predicted.
        seed: Seed of the draw; the same one gives the same images.
        every_epochs: Measure after every so many epochs, and after the last.
        batch_size: Images per forward pass.
        alarm: What to make of the figures.

    Raises:
        ValueError: ``every_epochs`` or ``batch_size`` below 1, or too few images.
    """

    def __init__(
        self,
        data: ImageSplit,
        normalize: Callable[[Tensor], Tensor],
        *,
        score: Score | None = None,
        bank: PositiveInt = 4000,
        queries: Annotated[PositiveInt, Ge(2)] = 1000,
        seed: Seed = 0,
        every_epochs: PositiveInt = 1,
        batch_size: PositiveInt = 512,
        alarm: CollapseAlarm | None = None,
    ) -> None:
        for name, value in (("every_epochs", every_epochs), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.bank, self.queries = monitor_split(len(data.labels), bank, queries, seed)
        self.every_epochs = every_epochs
        self.alarm = alarm or CollapseAlarm()
        self._normalize = normalize
        self._batch_size = batch_size
        chosen = torch.cat([self.bank, self.queries])
        self._images = data.images[chosen.to(data.images.device)]
        self._labels = data.labels[chosen.to(data.labels.device)].cpu()
        labelled = bool((self._labels >= 0).all())
        self._score = score if labelled else None

    @property
    def scores(self) -> bool:
        """Whether ``knn`` is among the figures."""
        return self._score is not None

    def measure(self, method: Method) -> dict[str, float]:
        """Figures of ``method`` as it is now; its modes and buffers are left as they were.

        ``knn`` (accuracy, if labels and score are there), ``rankme``, ``embedding_std`` and, for
        probabilistic methods, ``active_units``.
        """
        cut = len(self.bank)
        x = self._collect(method, method.embed, self._images)
        figures = {"rankme": rankme(x), "embedding_std": embedding_std(x)}
        if self._score is not None:
            y = self._labels
            figures["knn"] = float(self._score(x[:cut], y[:cut], x[cut:], y[cut:]))
        if isinstance(method, ProbabilisticMethod):
            queries = self._images[cut:]
            means = self._collect(method, lambda i: _means(method.posterior(i)), queries)
            figures["active_units"] = active_units(means)
        return figures

    def check(self, figures: Mapping[str, float], epoch: int, num_features: int) -> list[str]:
        """Collapse alarms for what :meth:`measure` found, and ``kl`` and ``clamp_fraction``."""
        return self.alarm.check(figures, epoch, num_features, len(self._labels))

    def _collect(
        self, method: Method, function: Callable[[Tensor], Tensor], images: Tensor
    ) -> Tensor:
        batches = images.split(self._batch_size)
        return map_batches(
            method, lambda batch: {"x": function(self._normalize(batch)).float()}, batches
        )["x"]


def _means(posterior: Any) -> Tensor:
    """Posterior means ``(B, D)``, in units of the prior's standard deviation of a feature."""
    means = moments(posterior)[0]
    # A direction has unit length, so that its features vary by 1/D and not by one.
    return means * means.shape[-1] ** 0.5 if isinstance(posterior, Directional) else means


class NoMonitor:
    """The choice ``monitor=none``: takes what a monitor takes, and measures nothing."""

    every_epochs = 1
    scores = False

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def measure(self, method: Any) -> dict[str, float]:
        """No figures."""
        return {}

    def check(self, figures: Mapping[str, float], epoch: int, num_features: int) -> list[str]:
        """No alarms."""
        return []
