"""One latent and many views of unequal quality: the joint model of an image's embeddings."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pyro
import torch
from pyro.distributions import (
    Categorical,
    Gamma,
    LogNormal,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    Normal,
    TorchDistribution,
)
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus
from torch.quasirandom import SobolEngine

from vje_pyro.distributions import ProjectedNormal, RadialStudentT
from vje_pyro.distributions._common import unit_vector
from vje_pyro.guides.amortised import perceptron
from vje_pyro.inference import ImportanceWeightedELBO
from vje_pyro.ranges import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from vje_pyro.inference import CanonicalCoordinates

_DRAWS = 20
"""At a time: a draw takes V d numbers an image."""

_ROUNDS = 2
"""In which the weights are inferred: first beside all views alike, then beside weighted ones."""


class ManyViews(nn.Module):
    r"""A latent z generates the direction and the radius of every view of its image.

    A random crop can show most of an object or none of it, so every view has a weight
    :math:`w_v`, which is a latent too. In canonical coordinates
    (:class:`~vje_pyro.inference.CanonicalCoordinates`) of the embeddings,

    .. math::

        z &\sim N(0, I_d), \qquad w_v \sim Gamma(\nu/2,\ \nu/2), \qquad n_v = \sigma^2 / w_v \\
        u_v &= y_v / \|y_v\|, \qquad y_v \sim N\Big(\frac{k z}{h_v},\
            diag\,\frac{n_v}{h_v^2}\Big), \qquad h_v^2 = k^2 + n_v \\
        r_v &\sim \text{RadialStudentT}(loc = c\,\|k z\|,\ scale,\ df)

    with loading k and noise σ of every feature. Mixed over its weight, :math:`h_v y_v` is Student-t
    with ν degrees of freedom: the heavy-tailed law of VJE's directions, with its scale mixture
    spelled out. Divided by :math:`h_v`, a view of little weight is not longer than others: it tells
    less, in all features together, as is seen in embeddings of random crops.

    Given weights and lengths :math:`\ell_v = \|y_v\|`, the posterior of z is that of a linear
    Gaussian model,

    .. math::

        q(z \mid w, \ell, u) = N\Big(\frac{\sum_v \ell_v h_v k\,u_v / n_v}{1 + \sum_v k^2 / n_v},\
            \frac{1}{1 + \sum_v k^2 / n_v}\Big)

    The lengths are integrated out by Laplace's method around :math:`\sqrt d`, the length of most
    vectors of the prior: that adds a covariance of rank V.

    A small network infers the weight of a view from the view and from its agreement with the
    others. So :math:`q(z \mid u)` is a scale mixture of Gaussians, and more views make it narrower.

    :meth:`model` and :meth:`guide` are Pyro programs on the canonical embeddings of V views of N
    images, ``(V, N, d)``. :meth:`fit` trains them, with
    :class:`~vje_pyro.inference.ImportanceWeightedELBO` as the bound.

    Source: this project.

    Args:
        num_features: Dimension D of the embeddings.
        num_latents: Dimension d of z, at least 3: the canonical features that are modelled.
        hidden_features: Width of the network that infers the weights.

    Raises:
        ValueError: If ``num_latents`` is below 3 or above ``num_features``.
    """

    mean: Tensor
    components: Tensor
    correlation: Tensor

    def __init__(
        self, num_features: PositiveInt, num_latents: PositiveInt, hidden_features: PositiveInt = 64
    ) -> None:
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
        self.weight_network = perceptron(num_latents + 2, hidden_features, 1, 2)
        with torch.no_grad():
            cast(nn.Linear, self.weight_network[-1]).weight.mul_(
                0.1
            )  # the weights start near their prior

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

        Canonical coordinates times the root of their correlation: the inner product of two is
        large where one image is likely to have both as views.
        """
        return self.coordinates(embeddings) * self.correlation.sqrt()

    def model(self, views: Tensor) -> None:
        """Generate the directions and radii of views ``(V, N, d)``."""
        num_views, num_images, _ = views.shape
        prior = Normal(views.new_zeros(()), 1.0)
        with pyro.plate("data", num_images, dim=-1):
            z = pyro.sample("z", prior.expand([self.num_latents]).to_event(1))
            with pyro.plate("view", num_views, dim=-2):
                weight = pyro.sample("weight", self.weight_prior())
                pyro.sample("direction", self.direction(z, weight), obs=normalize(views, dim=-1))
                pyro.sample("radius", self.radius(z), obs=views.norm(dim=-1))

    def guide(self, views: Tensor) -> None:
        """Infer the weight of every view, and z from views and weights."""
        num_views, num_images, _ = views.shape
        directions = normalize(views, dim=-1)
        with pyro.plate("data", num_images, dim=-1):
            with pyro.plate("view", num_views, dim=-2):
                weight = pyro.sample("weight", self.weight_posterior(directions))
            pyro.sample("z", self.posterior_given_weights(directions, weight))

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

    def weight_posterior(self, directions: Tensor) -> TorchDistribution:
        """``q(weight | views)`` of unit vectors ``(V, N, d)``: batch shape ``(V, N)``.

        A single view tells nothing of its weight, since views of every weight are spread alike:
        there it is the prior.
        """
        num_views = len(directions)
        if num_views == 1:
            return self.weight_prior().expand(directions.shape[:2])
        weight = torch.ones_like(directions[..., 0])
        for _ in range(_ROUNDS):
            loc, raw = self._read_weights(directions, weight)
            weight = loc.exp()
        return LogNormal(loc, softplus(raw) + 1e-3)

    def _read_weights(self, directions: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The network's outputs for every view, beside what the others, so weighted, say of z."""
        noise = self._noise(weight)
        added = self._loading_variance() / noise
        total = (self._loading_variance() + noise).sqrt()
        shift = total * self.log_loading.exp() * directions / noise
        precision = 1 + added.sum(0) - added
        others = (shift.sum(0) - shift) / precision
        signal = self.correlation.sqrt()
        agreement = torch.cosine_similarity(signal * directions, signal * others, dim=-1)
        known = precision.log().mean(-1)
        inputs = torch.cat(
            [
                math.sqrt(self.num_latents) * directions,
                torch.stack([3 * agreement, known], dim=-1),
            ],
            dim=-1,
        )
        outputs = self.weight_network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        return outputs[..., 0], outputs[..., 1]

    def posterior_given_weights(self, directions: Tensor, weight: Tensor) -> TorchDistribution:
        """``q(z | views, weights)``: batch shape ``(..., 1, N)`` of weights ``(..., V, N)``."""
        noise = self._noise(weight)
        variance = 1 / (1 + (self._loading_variance() / noise).sum(-3, keepdim=True))
        total = (self._loading_variance() + noise).sqrt()
        # z is in the mean a sum over views of length times its column.
        columns = variance * self.log_loading.exp() * total * directions / noise
        columns = columns.movedim(-3, -1).unsqueeze(-4)
        # Quadratic form of the lengths once z is integrated out, and log length to second order.
        own = (directions * total).square().div(noise).sum(-1).movedim(-2, -1).unsqueeze(-3)
        quadratic = own.diag_embed() - columns.mT @ (columns / variance.unsqueeze(-1))
        length = math.sqrt(self.num_latents)
        free = (self.num_latents - 1) / self.num_latents
        precision = quadratic + free * torch.eye(len(directions), device=weight.device)
        root = torch.linalg.cholesky(precision)
        shift = free * length - length * quadratic.sum(-1)
        lengths = length + torch.cholesky_solve(shift.unsqueeze(-1), root)
        spread = torch.linalg.solve_triangular(root, columns.mT, upper=False).mT
        loc = (columns @ lengths).squeeze(-1)
        return LowRankMultivariateNormal(loc, spread, variance)

    def fit(
        self,
        embeddings: Tensor,
        num_steps: PositiveInt = 400,
        batch_size: PositiveInt = 128,
        num_particles: PositiveInt = 16,
        max_views: PositiveInt = 4,
        lr: PositiveFloat = 1e-2,
        seed: int = 0,
    ) -> "ManyViews":
        """Fit coordinates, model and guide to embeddings of several views of every image.

        A step looks at 2 to ``max_views`` random views of a mini-batch of images. The rate is
        ``lr`` for the network and five times that for the parameters of the laws, warmed up and
        brought to zero along half a cosine.

        Args:
            embeddings: ``(V, N, D)``, V at least 2.
            num_steps: Of Adam.
            batch_size: Images a step.
            num_particles: Of the importance-weighted bound; with few, the tails come out too light.
            max_views: Views a step, at most.
            lr: Rate.
            seed: Of all draws.

        Raises:
            ValueError: If the embeddings are not those of two views of two images or more, or have
                fewer varying directions than z has features.
            NonFiniteError: If an embedding is not finite.
        """
        from vje_pyro.inference import CanonicalCoordinates

        coordinates = CanonicalCoordinates(self.num_latents).fit(embeddings)
        if len(coordinates.correlation_) < self.num_latents:
            raise ValueError(
                f"the embeddings vary in {len(coordinates.correlation_)} directions only, and z "
                f"has {self.num_latents} features: choose fewer with num_latents."
            )
        self.use_coordinates(coordinates)
        views = self.coordinates(embeddings)
        network = list(self.weight_network.parameters())
        laws = [p for name, p in self.named_parameters() if not name.startswith("weight_network")]
        groups: list[dict[str, Any]] = [{"params": network}, {"params": laws, "lr": 5 * lr}]
        optimizer = torch.optim.Adam(groups, lr=lr)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, num_steps))
        bound = ImportanceWeightedELBO(num_particles)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.train()
            for _ in range(num_steps):
                size = int(torch.randint(2, max(2, min(max_views, len(views))) + 1, ()))
                images = torch.randint(views.shape[1], (batch_size,))
                batch = views[torch.randperm(len(views))[:size]][:, images]
                loss = bound.differentiable_loss(self.model, self.guide, batch)
                optimizer.zero_grad()
                (loss / (size * self.num_latents)).backward()
                nn.utils.clip_grad_norm_(self.parameters(), 5.0)
                optimizer.step()
                rate.step()
        return self.eval()

    def posterior(self, views: Tensor, num_components: int = 64) -> TorchDistribution:
        """``q(z | views)`` of canonical embeddings ``(V, N, d)``: a mixture over the weights.

        Args:
            views: Canonical embeddings.
            num_components: Quasi-random points of the weights, one Gaussian each.

        Returns:
            Batch shape ``(N,)``, event shape ``(d,)``.
        """
        directions = normalize(views, dim=-1)
        given = self.posterior_given_weights(directions, self._points(directions, num_components))
        parts = (given.loc, given.cov_factor, given.cov_diag)
        loc, spread, variance = (x.squeeze(1).transpose(0, 1) for x in parts)
        equal = Categorical(views.new_ones(views.shape[1], num_components))
        return MixtureSameFamily(equal, LowRankMultivariateNormal(loc, spread, variance))

    def draw(self, views: Tensor, num_samples: int) -> Tensor:
        """Draws of z from the posterior of views ``(V, N, d)``: ``(num_samples, N, d)``."""
        directions, parts = normalize(views, dim=-1), []
        for start in range(0, num_samples, _DRAWS):
            size = min(_DRAWS, num_samples - start)
            weight = self.weight_posterior(directions).sample((size,))
            parts.append(self.posterior_given_weights(directions, weight).sample().squeeze(1))
        return torch.cat(parts)

    def _points(self, directions: Tensor, number: int) -> Tensor:
        """Quasi-random points of ``q(weight | views)``, ``(number, V, N)``."""
        points = SobolEngine(len(directions), scramble=True, seed=0).draw(number).double()
        uniform = points.clamp(1e-6, 1 - 1e-6)
        q = self.weight_posterior(directions)
        if len(directions) == 1:
            from scipy.special import gammaincinv

            half_df = self.log_df.exp().item() / 2
            weights = torch.from_numpy(gammaincinv(half_df, uniform.numpy()) / half_df)
            return weights.to(directions)[..., None].expand(-1, -1, directions.shape[1])
        normal = torch.special.ndtri(uniform).to(directions)[..., None]
        return (q.loc + q.scale * normal).exp()

    def simulate(self, num_views: int, num_images: int) -> tuple[Tensor, Tensor]:
        """Views ``(V, N, d)`` that the model generates, and their z ``(N, d)``."""
        z = torch.randn(num_images, self.num_latents, device=self.log_noise.device)
        weight = self.weight_prior().sample((num_views, num_images))
        direction, radius = self.direction(z, weight).sample(), self.radius(z)
        return radius.sample((num_views,))[..., None] * direction, z

    def _loading_variance(self) -> Tensor:
        return (2 * self.log_loading).exp()

    def _noise(self, weight: Tensor) -> Tensor:
        """Variance n of every feature's noise, ``(..., d)``."""
        return (2 * self.log_noise).exp() / weight[..., None]


def _rate(num_steps: int, step: int) -> float:
    """Factor of the rate: a warm-up of 20 steps, then half a cosine."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / num_steps))
