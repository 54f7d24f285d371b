"""Is the posterior of the joint model right? Coverage, importance weights and simulation."""

from typing import Any

import numpy as np
import torch
from scipy.stats import gamma, kstest
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import normalize

from vje_pyro.diagnostics._programs import seeded
from vje_pyro.diagnostics.importance import Importance
from vje_pyro.diagnostics.predictive import Replicates

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
    """Importance weights of the posterior for each image's views ``(k, N, d)``.

    One datum is an image. Its posterior is the mixture of Gaussians that ``model.posterior``
    gives; the density that it should have is p(z) times that of all directions and radii, the
    weights of the views integrated out by quadrature.
    """
    posterior, prior = model.posterior(views, seed=seed), Normal(0.0, 1.0)
    directions, radii = normalize(views, dim=-1), views.norm(dim=-1)
    with seeded(seed):
        draws = posterior.sample((num_samples,)).split(_CHUNK)
    parts = []
    for z in draws:
        each = z[:, None]
        of_views = direction_log_prob(model, each, directions) + model.radius(each).log_prob(radii)
        log_joint = prior.log_prob(z).sum(-1) + of_views.sum(1)
        parts.append((log_joint - posterior.log_prob(z)).double())
    return Importance.of(torch.cat(parts), torch.arange(views.shape[1]), [num_samples])


def direction_log_prob(model: Any, z: Tensor, directions: Tensor, num_points: int = 32) -> Tensor:
    """``log p(direction | z)`` of views in nats, their weights integrated out, ``(..., V, N)``.

    The trapezoidal rule over log weight, between quantiles of the prior that leave out 1e-6.

    Args:
        model: A :class:`~vje_pyro.models.ManyViews`.
        z: ``(..., 1, N, d)``.
        directions: Unit vectors ``(V, N, d)``.
        num_points: Of the rule.
    """
    half_df = model.log_df.exp().item() / 2
    low, high = np.log(gamma.ppf([5e-7, 1 - 5e-7], half_df, scale=1 / half_df))
    points = torch.linspace(low, high, num_points)
    total = z.new_tensor(-torch.inf)
    for point in points:
        weight = point.exp().expand(directions.shape[:2])
        log_density = model.weight_prior().log_prob(weight) + point
        log_density = log_density + model.direction(z, weight).log_prob(directions)
        total = torch.logaddexp(total, log_density)
    return total + (points[1] - points[0]).log()


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
