"""The compiled head is the Pyro program: same loss, gradients, statistics and draws."""

import copy
from functools import partial

import pyro
import pytest
import torch
from small import Encoder
from vje_pyro.guides import AffineCouplingFlow, ConjugateNormal, DiagonalNormal, LowRankNormal
from vje_pyro.models import VJE, GlobalLatents

from vje_pyro.distributions import (
    ProjectedStudentT,
    RadialStudentT,
    SphericalStudentT,
    VonMisesFisher,
)
from vje_pyro.inference import Joint, SlicedEppsPulley
from vje_pyro.priors import MixturePrior, StudentTPrior, VampPrior
from vje_pyro.training.compiling import compile_method

DIRECTION = partial(SphericalStudentT, df=1.0)
RADIUS = partial(RadialStudentT, scale=1.0, df=1.0)
CASES = {
    "default": {},
    "no-radius": {"radius": None},
    "normalized": {"direction": partial(SphericalStudentT, df=1.0, normalized=True)},
    "projected": {"direction": partial(ProjectedStudentT, df=2.0)},
    "von-mises-fisher": {"direction": VonMisesFisher},
    "low-rank": {"guide": partial(LowRankNormal, rank=2)},
    "flow": {"guide": AffineCouplingFlow},
    "mixture": {"prior": MixturePrior},
    "vamp": {"prior": VampPrior},
    "student": {"prior": StudentTPrior},
    "aggregate": {"aggregate": SlicedEppsPulley(weight=0.1)},
    "joint": {"objective": Joint(), "guide": ConjugateNormal},
    "latents": {"latents": GlobalLatents(radius_df=(0.0, 1.0)), "num_data": 100},
    "settings": {"beta": 0.5, "num_particles": 3, "target_grad": "flow", "reference_radius": 1.0},
}


def make(guide=DiagonalNormal, direction=DIRECTION, radius=RADIUS, **settings):
    torch.manual_seed(0)
    settings = copy.deepcopy(settings)  # each method its own modules
    return VJE(Encoder(), partial(guide, hidden_features=8), direction, radius, **settings)


def step(method, views, seed):
    method.zero_grad()
    torch.manual_seed(seed)
    with pyro.validation_enabled(False):
        loss = method.loss(views)
        loss.total.backward()
    figures = {"total": loss.total.detach(), **loss.parts, **loss.monitors}
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return figures, gradients, dict(method.named_buffers())


FAST = ("settings", "latents")  # the others take seconds each


@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_the_compiled_head_is_the_program(case, views):
    ours, theirs = make(**CASES[case]), make(**CASES[case])
    theirs.compile_head("aot_eager")
    for seed in range(2):
        torch.testing.assert_close(step(theirs, views, seed), step(ours, views, seed))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch 2.11 itself
def test_so_is_the_head_that_inductor_compiles(views):
    ours, theirs = make(), make()
    theirs.compile_head()
    for seed in range(2):
        found, expected = step(theirs, views, seed), step(ours, views, seed)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_copy_and_an_evaluation_are_not_compiled(views):
    method = make()
    method.compile_head("no such backend")
    with pytest.raises(Exception, match="no such backend"):
        method.loss(views)
    with torch.no_grad():
        assert torch.isfinite(method.loss(views).total)
    assert torch.isfinite(method.eval().loss(views).total)
    assert torch.isfinite(copy.deepcopy(method.train()).loss(views).total)


def test_a_compiled_method_takes_the_same_steps(digits):
    views = torch.randn(2, 16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    methods = [VJE(digits.encoder(), DiagonalNormal, DIRECTION, RADIUS) for _ in range(2)]
    methods[1].load_state_dict(methods[0].state_dict())
    names = list(methods[1].state_dict())
    compile_method(methods[1], backend="aot_eager")
    torch.testing.assert_close(step(methods[1], views, 0), step(methods[0], views, 0))
    assert list(methods[1].state_dict()) == names
