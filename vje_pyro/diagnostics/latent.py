"""What the latent is used for: KL and its parts, active units, what the likelihood gains by it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Categorical, MixtureSameFamily, Normal, TorchDistribution
from torch import Tensor
from torch.distributions import Independent, LowRankMultivariateNormal, kl_divergence
from torch.distributions import MixtureSameFamily as TorchMixture
from torch.distributions import Normal as TorchNormal

from vje_pyro.diagnostics._images import mean_over_images
from vje_pyro.diagnostics._programs import chunks, draw_latents, seeded, site_log_probs
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, Verdict, told
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.distributions.moments import moments

_ACTIVE = 0.01
_REPLACED = ", Gaussian marginals of the {}'s moments"


@dataclass(frozen=True)
class Latent:
    r"""Use of the latent by a guide, over the M data of :class:`Pairs`; all in nats.

    The KL of a datum has two parts, of which the first says what z knows of the datum and the
    second how far all posteriors together are from the prior:

    .. math::

        \frac1M \sum_n KL(q_n \| p) = I(n; z) + KL(\bar q \| p),
        \qquad \bar q = \frac1M \sum_n q_n

    Args:
        kl_per_dim: KL of each marginal of the posterior from the prior's, ``(M, D)``. Where
            posterior and prior are products these sum to the KL.
        kl_from: ``"closed form"`` or ``"draws"``; and which marginals, if any, the Gaussian of
            their moments stands for (a flow has none in closed form).
        mean_variance: Variance over the data of the posterior mean, ``(D,)``.
        mutual_information: Terms whose mean is I(n; z), ``(M,)``; at most log M, where the
            posteriors do not overlap.
        aggregate_kl: Terms whose mean is the KL of the aggregate posterior, ``(M,)``; single
            terms can be negative.
        latent_gain: Expected log-likelihood of the target less that with the latent of another
            image, ``(M,)``. Near 0 the model does not use z, whatever the KL is.
        scale_gain: The same with the directional scale of another image, ``(M,)``.
        images: Which image each datum is of, ``(M,)``.
    """

    kl_per_dim: Tensor
    kl_from: str
    mean_variance: Tensor
    mutual_information: Tensor
    aggregate_kl: Tensor
    latent_gain: Tensor
    scale_gain: Tensor
    images: Tensor

    @property
    def active(self) -> Tensor:
        """Units whose posterior mean has a variance above 0.01 over images, ``(D,)``."""
        return self.mean_variance > _ACTIVE

    @property
    def kl(self) -> Tensor:
        """KL of each posterior from the prior, estimated from draws, ``(M,)``."""
        return self.mutual_information + self.aggregate_kl

    @property
    def verdict(self) -> Verdict:
        """Whether the 95 % interval of the latent's gain reaches down to zero."""
        gain = mean_over_images(self.latent_gain, self.images)
        nats = f"{gain['value']:.2f} nats [{gain['low']:.2f}, {gain['high']:.2f}]"
        if gain["low"] > 0:
            return Verdict(False, f"a target loses {nats} with z of another image: z is used.")
        return Verdict(
            True,
            f"a target loses {nats} with z of another image: the model does not use z, or sources "
            f"and targets are not of one image. Check the views; lower method.beta.",
        )

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON: the KL with its parts, their intervals over images, and the units."""
        return {
            "num_data": len(self.kl),
            "kl": mean_over_images(self.kl, self.images),
            "mutual_information": mean_over_images(self.mutual_information, self.images),
            "mutual_information_limit": math.log(len(self.kl)),
            "aggregate_kl": mean_over_images(self.aggregate_kl, self.images),
            "latent_gain": mean_over_images(self.latent_gain, self.images),
            "scale_gain": mean_over_images(self.scale_gain, self.images),
            "active_units": int(self.active.sum()),
            "active_threshold": _ACTIVE,
            "mean_variance": self.mean_variance.tolist(),
            "kl_per_dim": self.kl_per_dim.mean(0).tolist(),
            "kl_per_dim_from": self.kl_from,
        }


@torch.no_grad()
def latent_usage(pairs: Pairs, num_samples: int = 16, seed: int = 0) -> Latent:
    """How the guide uses the latent.

    Args:
        pairs: The data. The parts of the KL cost ``num_samples`` × M² × D operations: some
            hundred images are enough.
        num_samples: Draws S from each posterior.
        seed: Of the draws.

    Raises:
        ValueError: If ``num_samples`` is below 1, or there is only one image.

    Source: active units, Burda et al. (arXiv 1509.00519), section 5.2; parts of the KL, Hoffman &
    Johnson, "ELBO surgery" (NeurIPS 2016 workshop); the gains are this project's.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be positive, got {num_samples}.")
    if len(pairs) < 2:
        raise ValueError("latent_usage swaps latents between images: it needs at least 2, got 1.")
    posterior, prior = pairs.posterior, pairs.method.prior_distribution()
    with seeded(seed):
        kl_per_dim, kl_from = _kl_of_marginals(posterior, pairs.moments, prior, num_samples)
        z = posterior.sample((num_samples,))
        latent_gain, scale_gain = _gains(pairs, num_samples)
    own = posterior.log_prob(z)
    aggregate = _log_aggregate(posterior, z)
    return Latent(
        kl_per_dim=kl_per_dim,
        kl_from=kl_from,
        mean_variance=pairs.moments[0].var(0),
        mutual_information=(own - aggregate).mean(0),
        aggregate_kl=(aggregate - prior.log_prob(z)).mean(0),
        latent_gain=latent_gain,
        scale_gain=scale_gain,
        images=pairs.images,
    )


def _gains(pairs: Pairs, num_samples: int) -> tuple[Tensor, Tensor]:
    """Log-likelihood that a datum loses with the latent, or the scale, of the image before it."""
    posterior, scale, target = pairs.arguments()
    means = torch.zeros(3, pairs.num_data, dtype=torch.float64)
    for size in chunks(num_samples, pairs.embeddings.numel()):
        own = draw_latents(pairs.method.guide, pairs.arguments(), size)
        others = {name: value.roll(1, 1) for name, value in own.items()}
        cases = (own, scale), (others, scale), (own, scale.roll(1, -2))
        for mean, (latents, scales) in zip(means, cases, strict=True):
            sites = site_log_probs(pairs.method.model, (posterior, scales, target), latents)
            observed = sum(s.double().sum(-2) for name, s in sites.items() if name not in latents)
            mean += torch.as_tensor(observed).expand(size, -1).sum(0) / num_samples
    with_own, with_other_latent, with_other_scale = means
    return with_own - with_other_latent, with_own - with_other_scale


def _log_aggregate(posterior: TorchDistribution, z: Tensor) -> Tensor:
    """Log density at ``z`` ``(S, M, D)`` of the mixture of all M posteriors, ``(S, M)``."""
    num_data = posterior.batch_shape[0]
    points = z.flatten(0, 1)
    parts = [
        posterior.log_prob(some[:, None]).logsumexp(1) - math.log(num_data)
        for some in points.split(list(chunks(len(points), num_data * z.shape[-1])))
    ]
    return torch.cat(parts).view(z.shape[:2])


def _kl_of_marginals(
    posterior: TorchDistribution,
    posterior_moments: tuple[Tensor, Tensor],
    prior: TorchDistribution,
    num_samples: int,
) -> tuple[Tensor, str]:
    """KL between the marginals, ``(M, D)``, and how it was found."""
    q, p, replaced = _marginals(posterior), _marginals(prior), ""
    if q is None:
        q, replaced = Normal(*posterior_moments), _REPLACED.format("posterior")
    if p is None:
        p, replaced = Normal(*moments(prior)), replaced + _REPLACED.format("prior")
    try:
        return kl_divergence(q, p), "closed form" + replaced
    except NotImplementedError:
        z = q.sample((num_samples,))
        return (q.log_prob(z) - p.log_prob(z)).mean(0), "draws" + replaced


def _marginals(joint: Any) -> Any:
    """The law of each feature, event shape (), batch shape ``(..., D)``; None where unknown."""
    if isinstance(joint, Independent) and joint.reinterpreted_batch_ndims == 1:
        return joint.base_dist
    if isinstance(joint, LowRankMultivariateNormal):
        return Normal(joint.mean, joint.stddev)
    if isinstance(joint, TorchMixture):
        components = _marginals(joint.component_distribution)
        if isinstance(components, TorchNormal):
            # The mixed dimension has to be the last one: (K, D) becomes (D, K).
            normals = Normal(components.loc.mT, components.scale.mT)
            weights = Categorical(logits=joint.mixture_distribution.logits[..., None, :])
            return MixtureSameFamily(weights.expand(normals.batch_shape[:-1]), normals)
    return None


def _show(figures: Figures, arrays: Arrays) -> Shown:
    names = {
        "kl": "KL to the prior [nats]",
        "mutual_information": "mutual information [nats]",
        "aggregate_kl": "KL of the aggregate posterior [nats]",
        "latent_gain": "gain by z [nats]",
        "scale_gain": "gain by the scale [nats]",
    }
    rows = {name: told(figures[key]) for key, name in names.items()}
    rows["mutual information [nats]"] += f", at most {figures['mutual_information_limit']:.2f}"
    rows["active units"] = f"{figures['active_units']} of {len(figures['mean_variance'])}"
    return Shown(list(rows.items()))


CHECK = Check(
    "Does the model use the latent?",
    "The mean KL to the prior is the mutual information of z and the image (at most the logarithm "
    "of the number of data) plus the KL of the aggregate posterior to the prior. A gain says how "
    "much likelier the target is than with z, or the directional scale, of another image.",
    lambda data: latent_usage(data.heldout, seed=data.seed),
    _show,
)
