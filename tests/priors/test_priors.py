import math

import pytest
import torch
from pyro.distributions import Independent, Normal

from vje_pyro.priors import MixturePrior, NormalPrior, StudentTPrior, VampPrior

D = 4
PRIORS = [NormalPrior, StudentTPrior, MixturePrior, VampPrior]


def infer(embeddings):
    return Independent(Normal(2 * embeddings, 0.5), 1)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_is_a_normalised_distribution_of_one_vector(prior):
    torch.manual_seed(0)
    p = prior(D)(infer)
    assert p.batch_shape == ()
    assert p.event_shape == (D,)
    # Importance sampling from a wide, heavy-tailed law.
    q = Independent(torch.distributions.StudentT(2.0, torch.zeros(D), 2.0), 1)
    z = q.sample((300_000,))
    weights = (p.log_prob(z) - q.log_prob(z)).exp()
    error = weights.std().item() / math.sqrt(len(z))
    assert abs(weights.mean().item() - 1) < 4 * error < 0.05


def test_a_student_t_prior_has_heavier_tails_than_the_normal():
    far = torch.full((D,), 6.0)
    assert StudentTPrior(D, df=3.0)(infer).log_prob(far) > NormalPrior(D)(infer).log_prob(far)


def test_a_mixture_is_the_sum_of_its_components():
    torch.manual_seed(0)
    prior = MixturePrior(D, num_components=3, scale=1.5)
    z = torch.randn(7, D)
    by_hand = torch.stack([Normal(m, 1.5).log_prob(z).sum(-1) for m in prior.loc]).logsumexp(0)
    torch.testing.assert_close(prior(infer).log_prob(z), by_hand - math.log(3))
    prior(infer).log_prob(z).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in prior.parameters())


def test_a_vamp_prior_is_the_mean_of_its_posteriors():
    torch.manual_seed(0)
    prior = VampPrior(D, num_components=3)
    z = torch.randn(7, D)
    by_hand = torch.stack([infer(s).log_prob(z) for s in prior.pseudo_embeddings]).logsumexp(0)
    torch.testing.assert_close(prior(infer).log_prob(z), by_hand - math.log(3))


def test_only_learned_priors_have_a_place_in_a_checkpoint():
    assert not NormalPrior(D).state_dict()
    assert not StudentTPrior(D).state_dict()
    assert set(MixturePrior(D).state_dict()) == {"logits", "loc", "log_scale"}
    assert set(VampPrior(D).state_dict()) == {"pseudo_embeddings"}


@pytest.mark.parametrize(
    ("prior", "arguments", "message"),
    [
        (NormalPrior, {"scale": 0.0}, "scale must be positive and finite, got 0.0"),
        (NormalPrior, {"num_features": 0}, "num_features must be positive, got 0"),
        (StudentTPrior, {"df": -1.0}, "df must be positive and finite, got -1.0"),
        (MixturePrior, {"num_components": 0}, "num_components must be positive, got 0"),
        (VampPrior, {"num_components": 0}, "num_components must be positive, got 0"),
    ],
)
def test_bad_arguments_are_named(prior, arguments, message):
    with pytest.raises(ValueError, match=message):
        prior(**({"num_features": D} | arguments))
