"""The posterior from several views: a product of the posteriors from each of them."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor

from vje_pyro.errors import NonFiniteError


def product_of_experts(
    experts: TorchDistribution, prior: TorchDistribution, present: Tensor
) -> TorchDistribution:
    r"""Posterior from a set of views, each of which has been read by itself.

    Views that are independent given z have

    .. math::

        q(z \mid S) \propto p(z) \prod_{v \in S} \frac{q(z \mid s_v)}{p(z)},

    in closed form for diagonal Gaussians: the precisions beyond the prior's add up, and so do the
    precision-weighted means. One view gives back its own posterior, and none the prior. An expert
    that is wider than the prior adds no precision.

    Args:
        experts: Posterior from each view, diagonal normal: batch shape ``(V B,)``, the views one
            after the other, event shape ``(D,)``.
        prior: ``p(z)``, diagonal normal: batch shape ``()``, event shape ``(D,)``.
        present: Which of the V views each of M posteriors of an image sees, bool ``(V, M, B)``, or
            broadcastable to it.

    Returns:
        Diagonal normal of batch shape ``(M B,)``, event shape ``(D,)``.

    Raises:
        ValueError: If experts or prior are not diagonal normal.

    Source: product of experts with the prior as one of them, Wu & Goodman (arXiv 1802.05335),
    section 2.1; here the prior is divided out of each expert, which is a posterior itself.

    Example:
        >>> experts = Normal(torch.tensor([[0.5], [0.7]]), 0.5**0.5).to_event(1)
        >>> both = product_of_experts(experts, Normal(torch.zeros(1), 1.0).to_event(1),
        ...                           torch.ones(2, 1, 1, dtype=torch.bool))
        >>> both.mean, both.variance
        (tensor([[0.8000]]), tensor([[0.3333]]))
    """
    loc, scale = _diagonal(experts, "experts")
    prior_loc, prior_scale = _diagonal(prior, "prior")
    loc, scale = (x.unflatten(0, (len(present), 1, -1)) for x in (loc, scale))
    weight = present.to(loc.dtype)[..., None]
    precision, prior_precision = scale.pow(-2), prior_scale.pow(-2)
    # What a view tells beyond the prior.
    added = (precision - prior_precision).clamp(min=0)
    total = prior_precision + (weight * added).sum(0)
    shift = (weight * precision * (loc - prior_loc)).sum(0)
    product_loc = prior_loc + shift / total
    return Independent(Normal(product_loc.flatten(0, 1), total.rsqrt().flatten(0, 1)), 1)


def stack_views(views: Sequence[Tensor] | Tensor) -> Tensor:
    """The same views of every image as one tensor, ``(V, B, ...)``.

    Args:
        views: V tensors ``(B, ...)``, or one of them all.

    Raises:
        ValueError: If there are no views, one is missing or differs in shape.
        NonFiniteError: If a view of an image holds a NaN or an infinite number.

    Example:
        >>> stack_views([torch.zeros(4, 2), torch.ones(4, 2)]).shape
        torch.Size([2, 4, 2])
    """
    shapes = [None if view is None else tuple(view.shape) for view in views]
    if not shapes or None in shapes or len(set(shapes)) > 1:
        raise ValueError(
            f"every image needs each of the views, which have the shapes {shapes}: leave out "
            f"images that lack a view, or infer from fewer views."
        )
    stacked = views if isinstance(views, Tensor) else torch.stack(list(views))
    finite = stacked.flatten(2).isfinite().all(-1)
    if not finite.all():
        view, image = (~finite).nonzero()[0].tolist()
        raise NonFiniteError(
            f"{int((~finite).sum())} of {finite.numel()} views hold a NaN or infinite number, the "
            f"first is view {view} of image {image}: leave out images that lack a view."
        )
    return stacked


def leave_one_out(scale: Tensor, present: Tensor) -> Tensor:
    """Scale of every view as the *other* present views tell it, ``(V, M, B, D)`` of ``(V, B, D)``.

    The harmonic mean of their squares; that of a view that is the only one present is its own.
    """
    precision = scale.pow(-2)[:, None]
    weight = present.to(scale.dtype)[..., None]
    total, count = (weight * precision).sum(0), weight.sum(0)
    others, rest = total - weight * precision, count - weight
    alone = rest < 0.5
    mean = torch.where(alone, total, others) / torch.where(alone, count, rest)
    return mean.rsqrt()


def _diagonal(distribution: Any, name: str) -> tuple[Tensor, Tensor]:
    base = getattr(distribution, "base_dist", None)
    if not isinstance(base, Normal) or distribution.event_dim != 1:
        raise ValueError(
            f"a posterior from several views is in closed form for diagonal normal experts and "
            f"prior, but the {name} are {distribution}: use guide=diagonal_normal or "
            f"conjugate_normal with prior=standard_normal, or objective=conditional."
        )
    return base.loc, base.scale
