import copy

import pyro
import pytest
import torch
from pyro.distributions import Normal, constraints
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn

from vje_pyro.encoders import Identity
from vje_pyro.inference import LocalParams, SymmetricELBO, ViewPrograms

N = 5


class Programs(ViewPrograms):
    """z ~ N(rate, 1), x | z ~ N(z, 1); q(z) = N(loc, scale) for each datum."""

    infer = log_likelihood = loss = None

    def __init__(self, rate=1.0, prior=None):
        super().__init__(Identity(N))
        self.rate = rate
        self.prior = prior

    def pairs(self, views):
        return (views.flatten(2).mean(-1).flatten(),)

    def generate(self, x):
        mean = self.prior() if self.prior else pyro.param("the.rate", torch.tensor(self.rate))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(mean, 1.0))
            pyro.sample("x", Normal(z, 1.0), obs=x)

    def approximate(self, x):
        loc = pyro.param("loc", lambda: torch.zeros(len(x)))
        with pyro.plate("data", len(x)):
            scale = pyro.param("scale", torch.full((len(x),), 0.5), constraints.positive)
            pyro.sample("z", Normal(loc, scale))


@pytest.fixture(autouse=True)
def _fresh_store():
    pyro.clear_param_store()


@pytest.fixture
def x():
    return torch.randn(N, generator=torch.Generator().manual_seed(0))


def step(programs, x):
    """One step of a torch optimiser, after a first loss."""
    elbo = SymmetricELBO()
    elbo.loss(programs.model, programs.guide, x)
    optimizer = torch.optim.SGD(programs.parameters(), lr=0.1)
    elbo.differentiable_loss(programs.model, programs.guide, x).backward()
    optimizer.step()


def test_what_programs_make_are_parameters_of_theirs(x):
    programs = Programs(2.0)
    SymmetricELBO().loss(programs.model, programs.guide, x)
    state = programs.state_dict()
    assert set(state) == {"params.the%2Erate", "params.loc", "params.scale"}
    assert state["params.the%2Erate"] == 2
    torch.testing.assert_close(state["params.scale"].exp(), torch.full((N,), 0.5))
    assert len(pyro.get_param_store()) == 0
    step(programs, x)
    assert all(not torch.equal(state[n] * 0 + before, p) for n, p, before in moved(programs, x))


def moved(programs, x):
    before = {n: p.detach().clone() for n, p in programs.named_parameters()}
    step(programs, x)
    return [(n, p, before[n]) for n, p in programs.named_parameters()]


def test_two_methods_share_no_name(x):
    one, other = Programs(1.0), Programs(2.0)
    step(one, x)
    SymmetricELBO().loss(other.model, other.guide, x)
    assert dict(other.named_parameters())["params.the%2Erate"] == 2
    before = {n: p.detach().clone() for n, p in other.named_parameters()}
    step(one, x)
    assert all(torch.equal(p, before[n]) for n, p in other.named_parameters())


def test_a_copy_has_parameters_of_its_own(x):
    programs = Programs()
    step(programs, x)
    other = copy.deepcopy(programs)
    before = {n: p.detach().clone() for n, p in other.named_parameters()}
    step(programs, x)
    assert all(torch.equal(p, before[n]) for n, p in other.named_parameters())


def test_svi_trains_them_with_options_by_name(x):
    programs, seen = Programs(), []

    def options(module, name):
        seen.append((module, name))
        return {"lr": 0.1}

    svi = SVI(programs.model, programs.guide, pyro.optim.Adam(options), loss=Trace_ELBO())
    losses = [svi.step(x) for _ in range(100)]
    assert set(seen) == {("Programs", f"params.{name}") for name in ("the%2Erate", "loc", "scale")}
    assert sum(losses[-10:]) < sum(losses[:10]) - 10
    # What was trained is what is used where no SVI listens.
    ours = SymmetricELBO(num_particles=2000).loss(programs.model, programs.guide, x)
    assert ours == pytest.approx(sum(losses[-10:]) / 10 / N, abs=0.3)


def test_svi_refuses_to_train_the_parameters_of_another(x):
    adam = pyro.optim.Adam({"lr": 0.1})
    for programs in (one := Programs(), Programs()):
        svi = SVI(programs.model, programs.guide, adam, loss=Trace_ELBO())
        if programs is one:
            svi.step(x)
            continue
        with pytest.raises(ValueError, match="already holds another Programs"):
            svi.step(x)


class Rate(PyroModule):
    """A PyroModule, whose parameters Pyro keeps by their names."""

    def __init__(self, rate):
        super().__init__()
        self.rate = PyroParam(torch.tensor(rate), constraints.positive)

    def forward(self):
        return self.rate


def test_pyro_modules_of_two_methods_share_no_name(x):
    one, other = Programs(prior=Rate(1.0)), Programs(prior=Rate(2.0))
    step(one, x)
    stepped = one.prior.rate.item()
    SymmetricELBO().loss(other.model, other.guide, x)
    assert other.prior.rate.item() == pytest.approx(2)
    step(other, x)
    assert other.prior.rate.item() != pytest.approx(2)
    assert one.prior.rate.item() == stepped != pytest.approx(1)
    assert "prior.rate_unconstrained" in dict(one.named_parameters())


def test_parameters_of_plain_modules_stay_theirs():
    params, linear = LocalParams(), nn.Linear(2, 2)
    with params.held():
        assert pyro.module("linear", linear) is linear
    assert not list(params.parameters())
    assert len(pyro.get_param_store()) == 0


def test_a_plate_takes_its_part():
    params = LocalParams()
    with params.held(), pyro.plate("data", 4, subsample=torch.tensor([2, 0])):
        part = pyro.param("loc", torch.arange(4.0), event_dim=0)
    assert part.tolist() == [2, 0]
    part.sum().backward()
    assert next(params.parameters()).grad.tolist() == [1, 0, 1, 0]


def test_a_name_alone_gives_what_was_made():
    params = LocalParams()
    with params.held():
        pyro.param("scale", torch.tensor(2.0), constraints.positive)
        assert pyro.param("scale").item() == pytest.approx(2)
    loaded = LocalParams()
    loaded.make_missing(params.state_dict())
    with loaded.held(), pytest.raises(ValueError, match=r"pyro.param\('scale'\).*in every call"):
        pyro.param("scale")
    with loaded.held():
        value = pyro.param("scale", torch.tensor(7.0), constraints.positive)
    assert value.item() == pytest.approx(2)
    with params.held(), pytest.raises(KeyError, match="other"):
        pyro.param("other")


def test_the_first_call_may_come_without_gradients(x):
    programs = Programs()
    with torch.inference_mode():
        SymmetricELBO().loss(programs.model, programs.guide, x)
    SymmetricELBO().differentiable_loss(programs.model, programs.guide, x).backward()
    assert all((p.grad != 0).any() for p in programs.parameters())
