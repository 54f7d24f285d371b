import math
from dataclasses import replace

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch.distributions import kl_divergence
from torch.testing import assert_close

from vje_pyro.diagnostics import latent_usage
from vje_pyro.guides import AffineCouplingFlow, DiagonalNormal, LowRankNormal
from vje_pyro.priors import MixturePrior, StudentTPrior, VampPrior


def test_kl_per_dimension_is_closed_and_sums_to_the_kl(pairs):
    result = latent_usage(pairs, num_samples=200)
    kl = kl_divergence(pairs.posterior, pairs.method.prior_distribution().expand((80,)))
    assert result.kl_from == "closed form"
    assert result.kl_per_dim.shape == (80, 8)
    assert_close(result.kl_per_dim.sum(1), kl)
    assert result.kl.mean().item() == pytest.approx(kl.mean().item(), rel=0.02)


def test_the_parts_of_the_kl_of_a_known_aggregate(conjugate_pairs):
    pairs = conjugate_pairs(num_images=400, dim=1, noise=1.0)
    result = latent_usage(pairs)
    # z and x are correlated by 1/√2, and the aggregate posterior of exact posteriors is the prior.
    assert result.mutual_information.mean().item() == pytest.approx(0.5 * math.log(2), abs=0.05)
    assert result.aggregate_kl.mean().item() == pytest.approx(0, abs=0.02)


def test_an_aggregate_that_is_not_the_prior(conjugate_pairs):
    shifted = conjugate_pairs(num_images=400, dim=1, noise=1.0, shift=2.0)
    result = latent_usage(shifted)
    shift = 2 * 0.5**0.5
    assert result.mutual_information.mean().item() == pytest.approx(0.5 * math.log(2), abs=0.05)
    assert result.aggregate_kl.mean().item() == pytest.approx(shift**2 / 2, abs=0.1)


def test_mutual_information_stays_below_its_limit(conjugate_pairs):
    result = latent_usage(conjugate_pairs(num_images=20, dim=40, noise=0.1))
    # 20 posteriors far apart, each of which stands for two of the 40 data.
    assert_close(result.mutual_information, torch.full((40,), math.log(20)))
    assert result.summary()["mutual_information_limit"] == pytest.approx(math.log(40))


def test_active_units(conjugate_pairs):
    pairs = conjugate_pairs(num_images=200, dim=4, noise=1.0)
    weak = torch.tensor([1.0, 0.05, 0.05, 1.0])
    pairs = replace(pairs, embeddings=pairs.embeddings * weak)
    result = latent_usage(pairs)
    assert_close(result.mean_variance, (pairs.source / 2).var(0))
    assert result.active.tolist() == [True, False, False, True]
    assert result.summary()["active_units"] == 2


def test_what_the_likelihood_gains_by_the_latent(conjugate_pairs):
    pairs = conjugate_pairs(num_images=200, dim=3, noise=1.0)
    result = latent_usage(pairs, num_samples=500)
    x, mean = pairs.target, pairs.source / 2
    gain = ((x - mean.roll(1, 0)).square() - (x - mean).square()).sum(-1) / 2
    assert_close(result.latent_gain.float(), gain, rtol=0.05, atol=0.6)
    assert result.latent_gain.mean().item() == pytest.approx(gain.mean().item(), abs=0.03)
    assert_close(result.scale_gain, torch.zeros(400, dtype=torch.float64))
    summary = result.summary()
    assert summary["latent_gain"]["value"] == pytest.approx(result.latent_gain.mean().item())


def test_a_model_that_listens_to_the_scale_alone(conjugate_pairs):
    class Deaf(type(conjugate_pairs().method)):
        def infer(self, source):
            return super().infer(source)._replace(scale=0.5 + source.abs())

        def generate(self, posterior, scale, target=None):
            with pyro.plate("data", len(scale), dim=-1):
                pyro.sample("z", self.prior_distribution())
                pyro.sample("direction", Normal(0.0, scale).to_event(1), obs=target)

    pairs = conjugate_pairs(num_images=50, dim=3)
    pairs = replace(pairs, method=Deaf(3, 0.8, 0.0, 1.0).eval())
    result = latent_usage(pairs)
    scale = 0.5 + pairs.source.abs()
    own, other = (Normal(0.0, s).log_prob(pairs.target).sum(-1) for s in (scale, scale.roll(1, 0)))
    assert_close(result.latent_gain, torch.zeros(100, dtype=torch.float64))
    assert_close(result.scale_gain, (own - other).double(), rtol=1e-5, atol=1e-5)
    assert result.mutual_information.mean() > 1  # the KL does not tell


@pytest.mark.parametrize(
    ("guide", "prior", "kl_from"),
    [
        (LowRankNormal, None, "closed form"),
        (DiagonalNormal, StudentTPrior, "draws"),
        (DiagonalNormal, MixturePrior, "draws"),
        (LowRankNormal, VampPrior, "draws"),
        (AffineCouplingFlow, None, "closed form, Gaussian marginals of the posterior's moments"),
    ],
)
def test_every_guide_and_prior(untrained_pairs, guide, prior, kl_from):
    pairs = untrained_pairs(guide, **({"prior": prior} if prior else {}))
    result = latent_usage(pairs, num_samples=300)
    assert result.kl_from == kl_from
    q, p = pairs.posterior, pairs.method.prior_distribution()
    with torch.random.fork_rng():
        torch.manual_seed(9)
        z = q.sample((2000,))
    assert_close(result.kl, (q.log_prob(z) - p.log_prob(z)).mean(0), rtol=0.1, atol=0.3)
    if prior in (None, StudentTPrior) and guide is DiagonalNormal:
        assert_close(result.kl_per_dim.sum(1), result.kl, rtol=0.1, atol=0.3)
    assert (result.kl_per_dim.mean(0) > -0.02).all()


def test_the_marginals_of_a_mixture(untrained_pairs):
    from vje_pyro.diagnostics.latent import _marginals

    prior = untrained_pairs(DiagonalNormal, prior=MixturePrior).method.prior_distribution()
    marginals = _marginals(prior)
    assert marginals.batch_shape == (8,)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = prior.sample((50_000,))
    assert_close(marginals.mean, z.mean(0), rtol=0, atol=0.03)
    assert_close(marginals.stddev, z.std(0), rtol=0.03, atol=0)


def test_the_summary_adds_up(pairs):
    summary = latent_usage(pairs).summary()
    assert len(summary["kl_per_dim"]) == 8
    total = summary["mutual_information"]["value"] + summary["aggregate_kl"]["value"]
    assert summary["kl"]["value"] == pytest.approx(total)
