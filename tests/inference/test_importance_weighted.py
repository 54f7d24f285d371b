import math

import pyro
import pytest
import torch
from pyro.distributions import Normal

from vje_pyro.inference import ImportanceWeightedELBO

X = torch.tensor([0.3, -1.2, 2.0])
WIDTH = 0.9


def model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", Normal(torch.zeros(3), 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=x)


def guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", Normal(x / 3, WIDTH))


def exact_guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", Normal(x / 2, 0.5**0.5))


EVIDENCE = Normal(0.0, 2**0.5).log_prob(X)


def test_with_the_exact_posterior_one_particle_gives_the_evidence():
    bound = ImportanceWeightedELBO(1)
    terms = bound.terms(model, exact_guide, X)
    torch.testing.assert_close(bound.per_datum(terms), EVIDENCE)
    torch.testing.assert_close(terms["importance"], torch.zeros(3))


def test_many_particles_reach_the_evidence_of_every_datum():
    torch.manual_seed(0)
    bound = ImportanceWeightedELBO(20_000)
    terms = bound.terms(model, guide, X)
    torch.testing.assert_close(bound.per_datum(terms), EVIDENCE, atol=0.02, rtol=0)
    elbo = bound.per_datum({name: v for name, v in terms.items() if name != "importance"})
    assert (elbo < EVIDENCE - 0.05).all()


def test_a_datum_weights_its_own_particles():
    torch.manual_seed(0)
    bound = ImportanceWeightedELBO(4)
    of_particles = {"x": torch.randn(4, 2), "kl": torch.randn(4, 2)}
    log_weights = of_particles["x"] - of_particles["kl"]
    bound.particle_terms = lambda *_: of_particles
    got = bound.per_datum(bound.terms(model, guide, X))
    torch.testing.assert_close(got, log_weights.logsumexp(0) - math.log(4))


def test_a_number_of_particles_below_one_is_refused():
    with pytest.raises(ValueError, match="num_particles must be at least 1"):
        ImportanceWeightedELBO(0)
