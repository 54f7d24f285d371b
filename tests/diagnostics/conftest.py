"""A small trained VJE with embeddings, and a model whose posterior is known, for all the tests."""

from functools import partial

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import nn

from vje_pyro.diagnostics import Pairs, view_pairs
from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.encoders import Identity
from vje_pyro.guides import DiagonalNormal
from vje_pyro.inference import EmbeddingModel
from vje_pyro.method import Inferred
from vje_pyro.models import VJE

D = 8


class Encoder(nn.Module):
    """A fixed projection of 4 by 4 pixels: there is nothing to learn but the guide."""

    num_features = D

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, D, bias=False).requires_grad_(False)

    def forward(self, images):
        return self.linear(images.flatten(1))


def noisy_views(images):
    """Two views of uint8 images, which differ by noise in every pixel."""
    views = (images.float() / 255 - 0.5).expand(2, *images.shape)
    return views + 0.05 * torch.randn(views.shape)


def random_images(num_images, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num_images, 1, 4, 4), generator=generator, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _fresh_store():
    pyro.clear_param_store()


@pytest.fixture(scope="session")
def images():
    """uint8, (40, 1, 4, 4)."""
    return random_images(40, seed=1)


@pytest.fixture(scope="session")
def make_views():
    return noisy_views


@pytest.fixture(scope="session")
def method():
    """VJE of dimension 8 whose guide was trained for some hundred steps; in evaluation mode."""
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        torch.manual_seed(0)
        vje = VJE(
            Encoder(),
            guide=partial(DiagonalNormal, hidden_features=16),
            direction=partial(SphericalStudentT, df=1.0),
            radius=partial(RadialStudentT, scale=1.0, df=1.0),
        )
        optimizer = torch.optim.Adam([p for p in vje.parameters() if p.requires_grad], lr=1e-2)
        for step in range(300):
            loss = vje.loss(noisy_views(random_images(128, seed=100 + step))).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return vje.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def pairs(method, images, make_views):
    """40 images, their labels three classes in turn, so D = 8 and 80 data."""
    return view_pairs(
        method,
        images,
        make_views,
        labels=torch.arange(len(images)) % 3,
        classes=("zero", "one", "two"),
        split="test",
        seed=0,
    )


@pytest.fixture(scope="session")
def untrained_pairs():
    """Makes pairs of an untrained VJE of any guide and prior, with random embeddings."""

    def make(guide, num_images=12, **components):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            laws = {
                "direction": partial(SphericalStudentT, df=1.0),
                "radius": partial(RadialStudentT, scale=1.0, df=1.0),
            }
            vje = VJE(Encoder(), partial(guide, hidden_features=16), **(laws | components))
            embeddings = torch.randn(1, num_images, D) + 0.2 * torch.randn(2, num_images, D)
        return Pairs(
            method=vje.eval().requires_grad_(False),
            embeddings=embeddings,
            labels=torch.full((num_images,), -1),
            classes=(),
            indices=torch.arange(num_images),
            split="toy",
        )

    return make


class Conjugate(EmbeddingModel):
    """z ~ N(0, I), x | z ~ N(z, noise² I): posterior and evidence are Gaussian.

    Its guide is that posterior, moved by ``shift`` of its standard deviations and wider by
    ``widen``. Both views are to be the same, as the guide reads one and the model scores the other.
    """

    def __init__(self, dim, noise, shift, widen):
        super().__init__(Identity(dim), embedding_norm=False)
        self.noise, self.shift, self.widen = noise, shift, widen
        self.register_buffer("zero", torch.zeros(dim))

    def exact_posterior(self, x):
        precision = 1 + self.noise**-2
        stddev = torch.full_like(x, precision**-0.5)
        return Normal(x / self.noise**2 / precision, stddev).to_event(1)

    def log_evidence(self, x):
        return Normal(0.0, (1 + self.noise**2) ** 0.5).log_prob(x).sum(-1)

    def infer(self, source):
        exact = self.exact_posterior(source)
        mean = exact.mean + self.shift * exact.stddev
        posterior = Normal(mean, self.widen * exact.stddev).to_event(1)
        return Inferred(posterior, torch.ones_like(source))

    def prior_distribution(self):
        return Normal(self.zero, 1.0).to_event(1)

    def generate(self, posterior, scale, target=None):
        with pyro.plate("data", len(scale), dim=-1):
            z = pyro.sample("z", self.prior_distribution())
            pyro.sample("direction", Normal(z, self.noise).to_event(1), obs=target)

    def approximate(self, posterior, scale, target=None):
        with pyro.plate("data", len(scale), dim=-1):
            return pyro.sample("z", posterior)


@pytest.fixture(scope="session")
def conjugate_pairs():
    """Makes pairs whose exact posterior and evidence are known (:class:`Conjugate`)."""

    def make(num_images=10, dim=3, noise=0.8, shift=0.0, widen=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        x = (1 + noise**2) ** 0.5 * torch.randn(num_images, dim, generator=generator)
        return Pairs(
            method=Conjugate(dim, noise, shift, widen).eval(),
            embeddings=x.expand(2, -1, -1),
            labels=torch.full((num_images,), -1),
            classes=(),
            indices=torch.arange(num_images),
            split="toy",
        )

    return make
