"""VSSL: a Gaussian posterior from a student, and the prior of its latent from an EMA teacher."""

import math
from typing import Annotated, Literal

import pyro
import torch
from annotated_types import Ge
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import normalize

from vje_pyro.distributions import VonMisesFisher
from vje_pyro.encoders import EMATeacher, cosine_momentum
from vje_pyro.guides.amortised import BoundedScale, perceptron
from vje_pyro.inference import SymmetricELBO, ViewPrograms, ordered_pairs
from vje_pyro.method import Inferred, Loss
from vje_pyro.ranges import NonNegativeFloat, Particles, PositiveFloat, Probability, Width

FORMS = ("gaussian", "cosine")


class VSSL(ViewPrograms):
    r"""A student infers the latent of one view; a teacher, from another view, is its prior.

    With :math:`\mu_s, \sigma_s` from the student and :math:`\mu_t, \sigma_t` from the teacher,
    whose weights are the moving average of the student's, for views 1 and 2 of an image

    .. math::

        p(z \mid x_1) &= N(\mu_t(x_1), diag\,\sigma_t^2(x_1)) \\
        q(z \mid x_2) &= N(\mu_s(x_2), diag\,\sigma_s^2(x_2)) \\
        p(\mu_t(x_1) \mid z) &= N(g(z), diag\,\sigma_s^2(x_2)) \\
        \mathcal L &= E_{q(z \mid x_2)} \log p(\mu_t(x_1) \mid z)
            - \beta\, KL\big(q(z \mid x_2)\,\|\,p(z \mid x_1)\big)

    averaged over all ordered pairs of views, in nats, with the analytic KL; the optimiser minimises
    :math:`-\mathcal L / P`, P the dimension of z. No image is reconstructed: a network g finds the
    teacher's mean of view 1 in the noisy latent of view 2.

    With ``kl="cosine"`` the means of both Gaussians have length √P: with equal scales of one size
    the KL is :math:`P(1 - \cos(\mu_s, \mu_t))/\sigma^2`. With ``likelihood="cosine"`` the direction
    of the teacher's mean is von Mises–Fisher around :math:`g(z)`, with
    :math:`\kappa = P/\overline{\sigma_s^2}`. Both stay a KL and a density, so the objective stays a
    bound.

    Trivial solutions, and what keeps them away:

    - Means that are constant or shrink: a batch norm without affine gives them variance one.
    - Scales so large that the KL forgives any distance: they are bounded, and the likelihood, which
      shares the student's, charges log σ for them.
    - Scales that mean nothing: the KL alone is least at :math:`\sigma_s = \sigma_t`, any σ; that of
      the likelihood follows the error between the views.

    Source: Yavuz & Yanikoglu, "Variational Self-Supervised Learning" (arXiv 2504.04318): the two
    Gaussians, the teacher as the prior, the analytic KL, a cross-view denoising term, cosine forms.
    The exact denoising term and cosine forms, batch norm, bounds and shared scale are this
    project's.

    Args:
        encoder: As of :class:`~vje_pyro.method.Method`.
        hidden_dim: Width of the hidden layer of the head that gives means and scales, and of g.
        output_dim: Dimension P of z.
        min_scale: Lower bound of σ, positive; the means have variance one over the batch.
        max_scale: Upper bound of σ.
        likelihood: ``"gaussian"`` or ``"cosine"``.
        kl: ``"gaussian"`` or ``"cosine"``.
        beta: Weight of the KL.
        num_particles: Latent samples per pair and step.
        momentum: Of the teacher at the start; it grows to 1 (:func:`cosine_momentum`).

    Raises:
        ValueError: If ``output_dim`` is below 3, a width is not positive, the scales are not
            ``0 < min < max``, ``likelihood`` or ``kl`` is unknown, ``beta`` is negative or
            ``momentum`` not in [0, 1].
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_dim: Width = 2048,
        output_dim: Annotated[Width, Ge(3)] = 256,
        min_scale: PositiveFloat = 1e-2,
        max_scale: PositiveFloat = 10.0,
        likelihood: Literal["gaussian", "cosine"] = "gaussian",
        kl: Literal["gaussian", "cosine"] = "gaussian",
        beta: NonNegativeFloat = 1.0,
        num_particles: Particles = 1,
        momentum: Probability = 0.99,
    ) -> None:
        super().__init__(encoder)
        if output_dim < 3:
            raise ValueError(f"output_dim must be at least 3, got {output_dim}.")
        for name, form in (("likelihood", likelihood), ("kl", kl)):
            if form not in FORMS:
                raise ValueError(f"{name} must be one of {FORMS}, got {form!r}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}.")
        self.output_dim = output_dim
        self.radius = math.sqrt(output_dim)
        self.head = GaussianHead(self.num_features, hidden_dim, output_dim, min_scale, max_scale)
        self.denoiser = perceptron(output_dim, hidden_dim, 1, output_dim)
        self.teacher = EMATeacher(self._student())
        self.momentum = momentum
        self.likelihood = likelihood
        self.kl = kl
        self.elbo = SymmetricELBO(beta, num_particles)

    def _student(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.head)

    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(self._student(), cosine_momentum(self.momentum, progress))

    def generate(
        self,
        posterior: TorchDistribution,
        prior: TorchDistribution,
        target: Tensor | None = None,
    ) -> None:
        """The Pyro model of a plate of pairs; without targets it generates them.

        Args:
            posterior: The student's ``q(z | x_2)``: batch shape ``(N,)``, event shape ``(P,)``;
                its scale is that of the likelihood.
            prior: The teacher's ``p(z | x_1)``, likewise.
            target: The teacher's means of ``x_1``, ``(N, P)``.
        """
        with pyro.plate("data", posterior.batch_shape[0], dim=-1):
            z = pyro.sample("z", prior)
            clean = self._denoise(z)
            if self.likelihood == "cosine":
                law = VonMisesFisher(normalize(clean, dim=-1), posterior.stddev / self.radius)
                observed = None if target is None else normalize(target, dim=-1)
                pyro.sample("denoised", law, obs=observed)
            else:
                pyro.sample("denoised", Normal(clean, posterior.stddev).to_event(1), obs=target)

    def approximate(
        self,
        posterior: TorchDistribution,
        prior: TorchDistribution,
        target: Tensor | None = None,
    ) -> Tensor:
        """The Pyro guide: z of every pair from the student's Normal."""
        with pyro.plate("data", posterior.batch_shape[0], dim=-1):
            return pyro.sample("z", posterior)

    def _denoise(self, z: Tensor) -> Tensor:
        # Particles are further data for the batch norm.
        return self.denoiser(z.flatten(0, -2)).reshape(z.shape)

    def infer(self, embeddings: Tensor) -> Inferred:
        """The student's posterior, and its scale, of encoder outputs ``(N, D)``."""
        loc, scale = self.head(embeddings)
        return Inferred(self._normal(loc, scale), scale)

    def _normal(self, loc: Tensor, scale: Tensor) -> TorchDistribution:
        if self.kl == "cosine":
            loc = self.radius * normalize(loc, dim=-1)
        return Independent(Normal(loc, scale), 1)

    def pairs(self, views: Tensor) -> tuple[TorchDistribution, TorchDistribution, Tensor]:
        """Posterior, prior and target of the V (V − 1) B ordered pairs of ``(V, B, C, H, W)``."""
        posteriors = _stack([self.head(self.embed(view)) for view in views])
        priors = _stack([self.teacher(view) for view in views])
        posterior = self._normal(*(ordered_pairs(x)[0] for x in posteriors))
        prior = self._normal(*(ordered_pairs(x)[1] for x in priors))
        return posterior, prior, prior.mean

    def loss(self, views: Tensor) -> Loss:
        """Minus the symmetric ELBO per dimension of z, with its parts in nats per pair.

        The monitors are ``angle``, between the means of student and teacher in degrees;
        ``scale_mean``, ``scale_std`` and ``clamp_fraction`` of the student's scales; and ``std``,
        the spread of the means' directions in units of an even one: 0 is collapse.
        """
        posterior, prior, target = self.pairs(views)
        elbo, parts = self.bound(posterior, prior, target)
        return Loss(-elbo / self.output_dim, parts, self._monitors(posterior, prior))

    @torch.no_grad()
    def _monitors(
        self, posterior: TorchDistribution, prior: TorchDistribution
    ) -> dict[str, Tensor]:
        cosine = torch.cosine_similarity(posterior.mean, prior.mean, dim=-1).clamp(-1, 1)
        directions, scale = normalize(posterior.mean, dim=-1), posterior.stddev
        return {
            "angle": torch.rad2deg(torch.acos(cosine)).mean(),
            "scale_mean": scale.mean(),
            "scale_std": scale.std(),
            "clamp_fraction": self.head.bounds.bound_fraction(scale),
            "std": directions.std(dim=0).mean() * self.radius,
        }

    def prior(self, images: Tensor) -> TorchDistribution:
        """``p(z | image)`` by the teacher: batch shape ``(B,)``, event shape ``(P,)``."""
        return self._normal(*self.teacher(images))

    def log_likelihood(
        self, source: Tensor, target: Tensor, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """ELBO terms of every pair of images, in nats, each ``(B,)``.

        The teacher makes prior and target of ``target``; ``denoised`` is the likelihood's term.
        """
        prior = self.prior(target)
        return self.terms(num_samples, self.posterior(source), prior, prior.mean)


class GaussianHead(nn.Module):
    """Means, of variance one over the batch, and scales of a diagonal Gaussian from embeddings."""

    def __init__(
        self,
        num_features: int,
        hidden_dim: int,
        output_dim: int,
        min_scale: float,
        max_scale: float,
    ) -> None:
        super().__init__()
        self.network = perceptron(num_features, hidden_dim, 1, 2 * output_dim)
        self.norm = nn.BatchNorm1d(output_dim, affine=False)
        self.bounds = BoundedScale(min_scale, max_scale)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales ``(N, P)``, float32, of encoder outputs ``(N, D)``."""
        # KL and log-likelihood rounded to bfloat16 are off by nats.
        with torch.autocast(embeddings.device.type, enabled=False):
            loc, raw = self.network(embeddings.float()).chunk(2, dim=-1)
            return self.norm(loc), self.bounds.bounded_scale(raw)


def _stack(gaussians: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Means and scales of all views, ``(V, B, P)`` each."""
    locs, scales = zip(*gaussians, strict=True)
    return torch.stack(locs), torch.stack(scales)
