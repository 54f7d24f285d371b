"""The laws of many views of an image, and the posterior of its latent given their weights."""

import math
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.distributions import Gamma, LowRankMultivariateNormal, Normal, TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import normalize

from vje_pyro.distributions import ProjectedNormal, RadialStudentT
from vje_pyro.distributions._common import unit_vector
from vje_pyro.ranges import PositiveInt

if TYPE_CHECKING:
    from vje_pyro.inference import CanonicalCoordinates


class ViewLaws(nn.Module):
    """The generative half of :class:`~vje_pyro.models.ManyViews`, which has the formulas."""

    mean: Tensor
    components: Tensor
    correlation: Tensor

    def __init__(self, num_features: PositiveInt, num_latents: PositiveInt) -> None:
        super().__init__()
        if not 3 <= num_latents <= num_features:
            raise ValueError(
                f"num_latents must be at least 3 and at most the {num_features} features of the "
                f"embeddings, got {num_latents}."
            )
        self.num_latents = num_latents
        self.register_buffer("mean", torch.zeros(num_features, dtype=torch.float64))
        self.register_buffer("components", torch.eye(num_features, num_latents).double())
        self.register_buffer("correlation", torch.full((num_latents,), 0.5))
        self.log_loading = nn.Parameter(self.correlation.log() / 2)
        self.log_noise = nn.Parameter((1 - self.correlation).log() / 2)
        self.log_df = nn.Parameter(torch.tensor(math.log(4.0)))
        self.log_radius_factor = nn.Parameter(torch.zeros(()))
        self.log_radius_scale = nn.Parameter(torch.tensor(0.5))
        self.log_radius_df = nn.Parameter(torch.tensor(math.log(8.0)))

    def use_coordinates(self, coordinates: "CanonicalCoordinates") -> None:
        """Take up fitted coordinates; loading and noise start at what their correlations say."""
        self.mean.copy_(coordinates.mean_)
        self.components.copy_(coordinates.components_)
        self.correlation.copy_(coordinates.correlation_)
        with torch.no_grad():
            self.log_loading.copy_(self.correlation.log() / 2)
            self.log_noise.copy_((1 - self.correlation).log() / 2)

    def coordinates(self, embeddings: Tensor) -> Tensor:
        """Canonical coordinates ``(..., d)`` float32 of embeddings ``(..., D)``."""
        return ((embeddings.double() - self.mean) @ self.components).float()

    def shared(self, embeddings: Tensor) -> Tensor:
        """What an embedding says of all views of its image, ``(..., d)`` of ``(..., D)``.

        Canonical coordinates times the root of their correlation.
        """
        return self.coordinates(embeddings) * self.correlation.sqrt()

    def model(self, views: Tensor) -> None:
        """Generate the directions and radii of views ``(V, N, d)``."""
        num_views, num_images, _ = views.shape
        prior = Normal(views.new_zeros(()), views.new_ones(()))
        with pyro.plate("data", num_images, dim=-1):
            z = pyro.sample("z", prior.expand([self.num_latents]).to_event(1))
            with pyro.plate("view", num_views, dim=-2):
                weight = pyro.sample("weight", self.weight_prior())
                pyro.sample("direction", self.direction(z, weight), obs=normalize(views, dim=-1))
                pyro.sample("radius", self.radius(z), obs=views.norm(dim=-1))

    def weight_prior(self) -> Gamma:
        """``p(weight)`` of a view, of mean one; its inverse scales the noise."""
        half_df = self.log_df.exp() / 2
        return Gamma(half_df, half_df)

    def direction(self, z: Tensor, weight: Tensor) -> TorchDistribution:
        """Law of a view's direction, batch shape that of ``weight``, ``(..., V, N)``."""
        noise = self._noise(weight)
        total = (self._loading_variance() + noise).sqrt()
        signal = z * self.log_loading.exp() / total
        length = signal.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        loc, scale = torch.broadcast_tensors(unit_vector(signal), noise.sqrt() / total / length)
        return ProjectedNormal(loc, scale, validate_args=False)

    def radius(self, z: Tensor) -> TorchDistribution:
        """Law of a view's radius, batch shape that of z."""
        loading = self.log_loading.exp()
        factor = self.log_radius_factor.exp() * math.sqrt(self.num_latents) / loading.norm()
        return RadialStudentT(
            factor * (z * loading).norm(dim=-1),
            self.log_radius_scale.exp(),
            self.log_radius_df.exp(),
            normalized=True,
            validate_args=False,
        )

    def log_joint(self, views: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        """``log p(z, weights, views)`` in nats, ``(..., N)`` of z ``(..., N, d)``."""
        z = z.unsqueeze(-3)
        of_views = (
            self.weight_prior().log_prob(weight)
            + self.direction(z, weight).log_prob(normalize(views, dim=-1))
            + self.radius(z).log_prob(views.norm(dim=-1))
        )
        return Normal(0.0, 1.0).log_prob(z).sum((-3, -1)) + of_views.sum(-2)

    def simulate(self, num_views: int, num_images: int) -> tuple[Tensor, Tensor]:
        """Views ``(V, N, d)`` that the model generates, and their z ``(N, d)``."""
        z = torch.randn(num_images, self.num_latents, device=self.log_noise.device)
        weight = self.weight_prior().sample((num_views, num_images))
        direction, radius = self.direction(z, weight).sample(), self.radius(z)
        return radius.sample((num_views,))[..., None] * direction, z

    def posterior_given_weights(self, directions: Tensor, weight: Tensor) -> TorchDistribution:
        """``q(z | views, weights)``: batch shape ``(..., 1, N)`` of weights ``(..., V, N)``."""
        rows, variance, root, shift, _ = self._integrate_lengths(directions, weight)
        columns = (variance.unsqueeze(-2) * rows).mT
        spread = torch.linalg.solve_triangular(root, columns.mT, upper=False).mT
        loc = math.sqrt(self.num_latents) * columns.sum(-1) + (spread @ shift).squeeze(-1)
        return LowRankMultivariateNormal(
            loc.unsqueeze(-3), spread.unsqueeze(-4), variance.unsqueeze(-3), validate_args=False
        )

    def log_evidence(self, directions: Tensor, weight: Tensor) -> Tensor:
        """``log p(directions | weights)`` but for a constant, ``(..., N)`` in nats.

        z and the lengths are integrated out. It infers weights only: as a function of loading and
        noise this approximation has no maximum.
        """
        return self._integrate_lengths(directions, weight)[-1]

    def _integrate_lengths(self, directions: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Laplace's method: rows ``(..., N, V, d)``, variance, root, shift and log evidence.

        z has the mean ``variance * (lengths @ rows)``, and the lengths have the precision
        ``root @ root.mT`` and the mean ``sqrt(d) + inverse(root.mT) @ shift``.
        """
        u, d = directions.transpose(0, 1), self.num_latents
        noise, loading = self._noise(weight.transpose(-2, -1)), self._loading_variance()
        ratio = loading / noise
        scaled = u * (1 + ratio).sqrt()
        rows = scaled * ratio.sqrt()
        variance = 1 / (1 + ratio.sum(-2))
        weighted = rows * variance.sqrt().unsqueeze(-2)
        quadratic = scaled.square().sum(-1).diag_embed() - weighted @ weighted.mT
        # The lengths' own density, to second order around the root of d.
        free = 1 - 1 / d
        root = torch.linalg.cholesky(
            quadratic + free * torch.eye(len(directions), dtype=u.dtype, device=u.device)
        )
        shift = math.sqrt(d) * (free - quadratic.sum(-1, keepdim=True))
        shift = torch.linalg.solve_triangular(root, shift, upper=False)
        squares = shift.square().sum((-2, -1)) - d * quadratic.sum((-2, -1))
        logs = torch.log1p(ratio).sum((-2, -1)) + variance.log().sum(-1)
        log_evidence = (squares + logs) / 2 - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return rows, variance, root, shift, log_evidence

    def _loading_variance(self) -> Tensor:
        return (2 * self.log_loading).exp()

    def _noise(self, weight: Tensor) -> Tensor:
        """Variance n of every feature's noise, ``(..., d)``."""
        return (2 * self.log_noise).exp() / weight[..., None]
