"""Is the posterior of the joint model right? Coverage, importance weights and simulation."""

from typing import Any

import numpy as np
import torch
from scipy.stats import kstest
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.diagnostics._programs import seeded
from vje_pyro.diagnostics.importance import Importance, pareto_k
from vje_pyro.diagnostics.predictive import Replicates
from vje_pyro.inference import ImportanceWeightedELBO

_CHUNK = 20
_RANK_DRAWS = 99


@torch.no_grad()
def further_view_check(
    model: Any, views: Tensor, target: Tensor, num_samples: int = 200, seed: int = 0
) -> tuple[Replicates, Replicates]:
    """Angle and radius of one more view of every image, beside what k others predict of it.

    The angle, in degrees, is between the target's direction and the mean direction of the
    prediction.

    Args:
        model: A :class:`~vje_pyro.models.ManyViews`.
        views: Canonical embeddings of the views that are seen, ``(k, N, d)``.
        target: Those of the further view, ``(N, d)``.
        num_samples: Draws of each image's prediction.
        seed: Of the draws.
    """
    with seeded(seed):
        z = model.draw(views, num_samples)
        weight = model.weight_prior().sample(z.shape[:2])
        directions = model.direction(z[:, None], weight[:, None]).sample()[:, 0]
        radii = model.radius(z).sample()
    centre = normalize(directions.mean(0), dim=-1)
    images = torch.arange(len(target))
    angle = Replicates(
        _angle(normalize(target, dim=-1), centre), _angle(directions, centre), images, "degrees"
    )
    return angle, Replicates(target.norm(dim=-1), radii, images, "embedding norm")


@torch.no_grad()
def importance_of_views(model: Any, views: Tensor, num_samples: int, seed: int = 0) -> Importance:
    """Importance weights of the guide for the joint model of each image's views ``(k, N, d)``.

    One datum is an image, all of whose views are observed and seen by the guide.
    """
    rounds = max(1, num_samples // _CHUNK)
    bound = ImportanceWeightedELBO(_CHUNK)
    with seeded(seed):
        parts = [bound.particle_terms(model.model, model.guide, views) for _ in range(rounds)]
    log_weights = torch.cat([bound.per_datum(terms).double() for terms in parts])
    weights = (log_weights - log_weights.amax(0)).exp()
    bounds = {
        k: log_weights.unflatten(0, (-1, k)).logsumexp(1).mean(0) - float(np.log(k))
        for k in (1, len(log_weights))
    }
    ess = weights.sum(0).square() / weights.square().sum(0)
    images = torch.arange(views.shape[1])
    return Importance(log_weights, pareto_k(log_weights), ess, bounds, images)


@torch.no_grad()
def simulated_ranks(model: Any, num_views: int, num_images: int = 1000, seed: int = 0) -> Tensor:
    """Simulation-based calibration: rank of z among draws of its posterior, in (0, 1), ``(N, d)``.

    The data are the model's own. Under the exact posterior the ranks are uniform, feature by
    feature (Talts et al., arXiv 1804.06788).
    """
    with seeded(seed):
        views, z = model.simulate(num_views, num_images)
        draws = model.draw(views, _RANK_DRAWS)
        below = (draws < z).sum(0)
        return (below + torch.rand(z.shape)) / (_RANK_DRAWS + 1)


def rank_p_values(ranks: Tensor) -> np.ndarray:
    """Kolmogorov–Smirnov p-value of every feature's ranks against the uniform law, ``(d,)``."""
    return np.array([kstest(column, "uniform").pvalue for column in ranks.double().numpy().T])


def _angle(one: Tensor, other: Tensor) -> Tensor:
    return torch.rad2deg(torch.acos((one * other).sum(-1).clamp(-1, 1)))
