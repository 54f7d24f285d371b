"""Objectives: which views the posterior of an image sees, and which of them it explains."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from vje_pyro.inference.experts import leave_one_out, product_of_experts
from vje_pyro.inference.importance_weighted import PredictiveLikelihood
from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs

Infer = Callable[[Tensor], Any]


class Evidence(NamedTuple):
    """What model and guide are given of a plate of N data, of one target each or of T views."""

    posterior: TorchDistribution  # q(z | sources): batch shape (N,), event shape (D,)
    scale: Tensor  # of the directional factor in units of z, (N, D) or (T, N, D)
    target: Tensor  # observed embeddings, (N, D) or (T, N, D)


class Objective(ABC):
    """Makes the data of a step from the views' embeddings, and the bound that scores them."""

    bound: type[SymmetricELBO] = SymmetricELBO

    @abstractmethod
    def evidence(
        self, infer: Infer, sources: Tensor, targets: Tensor, prior: TorchDistribution
    ) -> Evidence:
        """The plate of data.

        Args:
            infer: From embeddings ``(N, D)`` to posterior and scale, each view by itself.
            sources: Embeddings of the views that may be inferred from, ``(V, B, D)``.
            targets: Embeddings of the same views that are observed, ``(V, B, D)``.
            prior: ``p(z)``.
        """


class Conditional(Objective):
    r"""The paper's: z from one view explains another one, for every ordered pair of views.

    .. math::

        \sum_{i \ne j} E_{q(z \mid s_i)} \log p(s_j \mid z) - \beta\,KL(q(z \mid s_i)\,\|\,p(z))

    The plate holds V (V − 1) B data. The optimum of q is not the posterior of the model: it pays
    for the whole KL and explains a view that it has not seen.

    Source: Oji & Fieguth (arXiv 2602.05639).
    """

    def evidence(
        self, infer: Infer, sources: Tensor, targets: Tensor, prior: TorchDistribution
    ) -> Evidence:
        """Every ordered pair of views is a datum; ``prior`` is not used."""
        posterior, scale = infer(ordered_pairs(sources)[0])
        return Evidence(posterior, scale, ordered_pairs(targets)[1])


class _Views(Objective):
    """z of an image, from some of its views, explains all of them: B data of V views each."""

    def evidence(
        self, infer: Infer, sources: Tensor, targets: Tensor, prior: TorchDistribution
    ) -> Evidence:
        """Every image is a datum."""
        posterior, scale = infer(sources.flatten(0, 1))
        present = self._present(sources)
        scales = leave_one_out(scale.view_as(sources), present)
        return Evidence(product_of_experts(posterior, prior, present), scales[:, 0], targets)

    def _present(self, sources: Tensor) -> Tensor:
        """The views that the posterior of each image sees, bool ``(V, 1, B)``."""
        return sources.new_ones(sources.shape[0], 1, sources.shape[1], dtype=torch.bool)


class Joint(_Views):
    r"""The bound of the joint model: one z explains all views of its image, and q sees them all.

    .. math::

        E_{q(z \mid s_1 \dots s_V)} \sum_v \log p(s_v \mid z)
        - \beta\,KL(q(z \mid s_1 \dots s_V)\,\|\,p(z))

    with q a product of experts (:func:`~vje_pyro.inference.product_of_experts`). Its optimum is the
    posterior of the model.

    Source: this project.
    """


class Subsets(_Views):
    r"""The joint model with q from a random non-empty subset of the views.

    .. math::

        E_S\Big[E_{q(z \mid s_S)} \sum_v \log p(s_v \mid z)
        - \beta\,KL(q(z \mid s_S)\,\|\,p(z))\Big]

    The size of S is uniform on 1 to V. Every subset gives a bound of the same evidence; the
    optimum of q for a proper subset is narrower than its posterior.

    Source: subsampled training of Wu & Goodman (arXiv 1802.05335), section 2.2.
    """

    def _present(self, sources: Tensor) -> Tensor:
        num_views, batch, _ = sources.shape
        device = sources.device
        size = torch.randint(1, num_views + 1, (batch,), device=device)
        rank = torch.rand(num_views, batch, device=device).argsort(0).argsort(0)
        return (rank < size)[:, None]


class Predictive(Objective):
    r"""Predictive likelihood: how well the posterior from all other views predicts a view.

    .. math::

        \sum_j \log E_{q(z \mid s_{-j})}\,p(s_j \mid z) - \beta\,KL(q(z \mid s_{-j})\,\|\,p(z))

    estimated with ``num_particles`` draws, which bounds it from below (use 8 or more). With β = 0
    it is a proper score of the prediction. The plate holds V B data.

    Source: the importance-weighted estimate, Burda et al. (arXiv 1509.00519); this project.
    """

    bound = PredictiveLikelihood

    def evidence(
        self, infer: Infer, sources: Tensor, targets: Tensor, prior: TorchDistribution
    ) -> Evidence:
        """Every view is a datum, seen from the others; ValueError if there is only one view."""
        if len(sources) < 2:
            raise ValueError(f"objective=predictive needs at least two views, got {len(sources)}.")
        posterior, scale = infer(sources.flatten(0, 1))
        others = ~torch.eye(len(sources), dtype=torch.bool, device=sources.device)[..., None]
        scales = leave_one_out(scale.view_as(sources), torch.ones_like(others[:, :1]))
        posterior = product_of_experts(posterior, prior, others.expand(-1, -1, sources.shape[1]))
        return Evidence(posterior, scales[:, 0].flatten(0, 1), targets.flatten(0, 1))
