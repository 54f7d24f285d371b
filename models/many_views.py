"""One latent and many views of unequal quality: the joint model of an image's embeddings."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import pyro
import torch
from pyro.distributions import (
    Categorical,
    LogNormal,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    TorchDistribution,
)
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from vje_pyro.guides.amortised import perceptron
from vje_pyro.inference import ImportanceWeightedELBO
from vje_pyro.models._view_laws import ViewLaws
from vje_pyro.ranges import PositiveFloat, PositiveInt

_ROUNDS = 2
"""In which the network reads the weights: beside all views alike, then beside weighted ones."""

_CHAINS = 50
"""Of an image's weights: as many Gaussians make up its posterior."""

_SWEEPS = 12
"""Of a chain over the views; the network and the prior propose in turn."""

_SURPLUS = 2
"""Draws of z for each one that is kept."""

_IMAGES = 8
"""At a time: what is computed for them fits a processor's cache."""


class ManyViews(ViewLaws):
    r"""A latent z generates the direction and the radius of every view of its image.

    A random crop can show most of an object or none of it, so every view has a weight :math:`w_v`,
    which is a latent too. In canonical coordinates
    (:class:`~vje_pyro.inference.CanonicalCoordinates`) of the embeddings,

    .. math::

        z &\sim N(0, I_d), \qquad w_v \sim Gamma(\nu/2,\ \nu/2), \qquad n_v = \sigma^2 / w_v \\
        u_v &= y_v / \|y_v\|, \qquad y_v \sim N\Big(\frac{k z}{h_v},\
            diag\,\frac{n_v}{h_v^2}\Big), \qquad h_v^2 = k^2 + n_v \\
        r_v &\sim \text{RadialStudentT}(loc = c\,\|k z\|,\ scale,\ df)

    with loading k and noise σ of every feature. Mixed over its weight, :math:`h_v y_v` is Student-t
    with ν degrees of freedom: the heavy-tailed law of VJE's directions as a scale mixture. Divided
    by :math:`h_v`, a view of little weight is not longer than others: it tells less, in all
    features.

    Given weights and lengths :math:`\ell_v = \|y_v\|`, the posterior of z is that of a linear
    Gaussian model,

    .. math::

        q(z \mid w, \ell, u) = N\Big(\frac{\sum_v \ell_v h_v k\,u_v / n_v}{1 + \sum_v k^2 / n_v},\
            \frac{1}{1 + \sum_v k^2 / n_v}\Big)

    and the lengths are integrated out by Laplace's method around :math:`\sqrt d`, which adds a
    covariance of rank V and gives the evidence :math:`\hat p(u \mid w)`. An image is left with V
    unknowns, its weights, which Markov chains draw (Metropolis–Hastings, one view at a time):

    .. math:: w^{(s)} \sim \hat p(w \mid u) \propto \hat p(u \mid w) \prod_v p(w_v)

    :math:`z \sim q(z \mid w^{(s)}, u)` follows. Pairs are weighted by :math:`p(z, w, u, r)` over
    the density that they were drawn from, which corrects Laplace's method and takes in the radii.
    :meth:`draw` resamples them; :meth:`posterior` is the mixture of the chains' Gaussians.

    :meth:`model` and :meth:`guide` are Pyro programs on the canonical embeddings of V views of N
    images, ``(V, N, d)``. The guide is a small network that infers the weight of a view from the
    view and its agreement with the others; the chains propose from it. :meth:`fit` trains both.

    Source: this project.

    Args:
        num_features: Dimension D of the embeddings.
        num_latents: Dimension d of z, at least 3: the canonical features that are modelled.
        hidden_features: Width of the network that infers the weights.

    Raises:
        ValueError: If ``num_latents`` is below 3 or above ``num_features``.
    """

    def __init__(
        self, num_features: PositiveInt, num_latents: PositiveInt, hidden_features: PositiveInt = 64
    ) -> None:
        super().__init__(num_features, num_latents)
        self.weight_network = perceptron(num_latents + 2, hidden_features, 1, 2)
        with torch.no_grad():  # the weights start near their prior
            cast(nn.Linear, self.weight_network[-1]).weight.mul_(0.1)

    def guide(self, views: Tensor) -> None:
        """Infer the weight of every view, and z from views and weights."""
        num_views, num_images, _ = views.shape
        directions = normalize(views, dim=-1)
        with pyro.plate("data", num_images, dim=-1):
            with pyro.plate("view", num_views, dim=-2):
                weight = pyro.sample("weight", self.weight_posterior(directions))
            pyro.sample("z", self.posterior_given_weights(directions, weight))

    def weight_posterior(self, directions: Tensor) -> TorchDistribution:
        """``q(weight | views)`` of unit vectors ``(V, N, d)``: batch shape ``(V, N)``.

        Of a single view it is the prior: views of every weight are spread alike.
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
        told = torch.stack([3 * agreement, known], dim=-1)
        inputs = torch.cat([math.sqrt(self.num_latents) * directions, told], dim=-1)
        outputs = self.weight_network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        return outputs[..., 0], outputs[..., 1]

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

        Coordinates are fitted to every other image, model and guide to the rest: views of images
        that coordinates were fitted to are more alike than those of others.

        First model and guide are fitted, by :class:`~vje_pyro.inference.ImportanceWeightedELBO`,
        with 2 to ``max_views`` random views of a mini-batch of images a step. Then the laws alone,
        a quarter as many steps with 1 to twice ``max_views`` views, by Monte Carlo
        expectation–maximisation: a step goes up the gradient of ``log p(z, w, views)`` at draws of
        z and w from the posterior (:meth:`draw`), so the laws do not bend to what the guide can
        follow. The rate of the network is ``lr``, that of the laws five times, then twice as much;
        warmed up and brought to zero along half a cosine.

        Args:
            embeddings: ``(V, N, D)``, V at least 2 and N at least 4.
            num_steps: Of Adam, for the bound.
            batch_size: Images a step.
            num_particles: Of the importance-weighted bound; with few, the tails come out too light.
            max_views: Views a step for the bound, at most.
            lr: Rate.
            seed: Of all draws.

        Raises:
            ValueError: If the embeddings are not those of two views of four images or more, or have
                fewer varying directions than z has features.
            NonFiniteError: If an embedding is not finite.
        """
        from vje_pyro.inference import CanonicalCoordinates, stack_views

        embeddings = stack_views(embeddings)
        coordinates = CanonicalCoordinates(self.num_latents).fit(embeddings[:, ::2])
        if len(coordinates.correlation_) < self.num_latents:
            raise ValueError(
                f"the embeddings vary in {len(coordinates.correlation_)} directions only, and z "
                f"has {self.num_latents} features: choose fewer with num_latents."
            )
        self.use_coordinates(coordinates)
        views = self.coordinates(embeddings[:, 1::2])
        network = list(self.weight_network.parameters())
        laws = [p for name, p in self.named_parameters() if not name.startswith("weight_network")]
        bound = ImportanceWeightedELBO(num_particles)

        def some_views(fewest: int, most: int) -> Tensor:
            size = int(torch.randint(fewest, max(fewest, min(most, len(views))) + 1, ()))
            images = torch.randint(views.shape[1], (batch_size,), device=views.device)
            return views[torch.randperm(len(views), device=views.device)[:size]][:, images]

        def of_bound() -> Tensor:
            batch = some_views(2, max_views)
            loss = bound.differentiable_loss(self.model, self.guide, batch)
            return loss / (len(batch) * self.num_latents)

        def of_draws() -> Tensor:
            batch = some_views(1, 2 * max_views)
            loss = -self.log_joint(batch, *self._draw_pairs(batch, 8, num_chains=8))
            return loss.mean() / (len(batch) * self.num_latents)

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.train()
            _descend(of_bound, [(network, lr), (laws, 5 * lr)], num_steps)
            self.eval()
            _descend(of_draws, [(laws, 2 * lr)], num_steps // 4)
        return self

    def posterior(
        self, views: Tensor, num_components: PositiveInt = _CHAINS, seed: int = 0
    ) -> TorchDistribution:
        """``q(z | views)``, batch shape ``(N,)``, event shape ``(d,)``: a mixture over the weights.

        Args:
            views: Canonical embeddings ``(V, N, d)``.
            num_components: Chains of the weights, one Gaussian each.
            seed: Of the chains.
        """
        parts = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for some in views.split(_IMAGES, dim=1):
                weight, _, log_weight = self._candidates(some, num_components, 8)
                given = self.posterior_given_weights(normalize(some, dim=-1), weight)
                laws = (x.squeeze(1) for x in (given.loc, given.cov_factor, given.cov_diag))
                parts.append([x.transpose(0, 1) for x in (log_weight.logsumexp(0), *laws)])
        logits, loc, spread, variance = map(torch.cat, zip(*parts, strict=True))
        law = LowRankMultivariateNormal(loc, spread, variance, validate_args=False)
        return MixtureSameFamily(Categorical(logits=logits), law)

    def draw(self, views: Tensor, num_samples: PositiveInt) -> Tensor:
        """Draws of z from the posterior of views ``(V, N, d)``: ``(num_samples, N, d)``."""
        parts = [self._draw_pairs(some, num_samples)[0] for some in views.split(_IMAGES, dim=1)]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def _draw_pairs(
        self, views: Tensor, number: int, num_chains: int = _CHAINS
    ) -> tuple[Tensor, Tensor]:
        """Draws of z ``(number, N, d)`` and weights ``(number, V, N)`` given the views."""
        num_each = math.ceil(_SURPLUS * number / num_chains)
        weight, z, log_weight = self._candidates(views, num_chains, num_each)
        share = log_weight.flatten(0, 1).softmax(0)
        chosen = torch.multinomial(share.T, number, replacement=True).T
        image = torch.arange(views.shape[1], device=views.device)
        return z.flatten(0, 1)[chosen, image], weight[chosen % num_chains, :, image].mT

    @torch.no_grad()
    def _candidates(
        self, views: Tensor, num_chains: int, num_each: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights ``(S, V, N)``, draws of z ``(C, S, N, d)`` for each, and log weights of pairs."""
        directions = normalize(views, dim=-1)
        weight = self._chains(directions, num_chains)
        given = self.posterior_given_weights(directions, weight)
        z = given.sample((num_each,))
        proposed = self.weight_prior().log_prob(weight).sum(-2)
        proposed = proposed + self.log_evidence(directions, weight) + given.log_prob(z).squeeze(-2)
        z = z.squeeze(-3)
        return weight, z, self.log_joint(views, z, weight) - proposed

    @torch.no_grad()
    def _chains(self, directions: Tensor, num_chains: int) -> Tensor:
        """Weights given directions, ``(num_chains, V, N)``: Metropolis–Hastings, view by view."""
        guide = self.weight_posterior(directions)
        prior = self.weight_prior().expand(guide.batch_shape)
        weight = guide.sample((num_chains,))
        evidence = self.log_evidence(directions, weight)
        for sweep in range(_SWEEPS):
            # The guide's tails can be too light: the prior proposes as well.
            proposal = (guide, prior)[sweep % 2]
            proposed = proposal.sample((num_chains,))
            gain = prior.log_prob(proposed) - proposal.log_prob(proposed)
            gain = gain - prior.log_prob(weight) + proposal.log_prob(weight)
            for v in range(len(directions)):
                changed = weight.clone()
                changed[:, v] = proposed[:, v]
                new = self.log_evidence(directions, changed)
                accept = (new - evidence + gain[:, v]).exp() > torch.rand_like(new)
                weight[:, v] = torch.where(accept, proposed[:, v], weight[:, v])
                evidence = torch.where(accept, new, evidence)
        return weight


def _descend(
    loss: Callable[[], Tensor], groups: list[tuple[list[nn.Parameter], float]], num_steps: int
) -> None:
    """Steps of Adam on parameters, each group at its rate."""
    optimizer = torch.optim.Adam([{"params": params, "lr": lr} for params, lr in groups])
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, num_steps))
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_([p for params, _ in groups for p in params], 5.0)
        optimizer.step()
        rate.step()


def _rate(num_steps: int, step: int) -> float:
    """Factor of the rate: a warm-up of 20 steps, then half a cosine."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
