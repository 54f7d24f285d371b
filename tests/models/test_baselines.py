"""The baselines' losses against formulas written out here."""

import runpy
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from small import BASELINES, METHODS, TAUGHT, make, random_views, seeded
from torch.nn.functional import normalize, relu

import vje_pyro.models
from vje_pyro.distributions import PowerSpherical

pytest.importorskip("lightly", reason="lightly is an extra")
views = random_views()


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def cosine(p, z):
    return (p / p.norm(dim=1, keepdim=True) * z / z.norm(dim=1, keepdim=True)).sum(1).mean()


def simsiam(p, z):
    return -(cosine(p[0], z[1]) + cosine(p[1], z[0])) / 2


def byol(p, z):
    return 4 - 2 * (cosine(p[0], z[1]) + cosine(p[1], z[0]))


def barlow_twins(p, _, weight=5e-3, scale=0.1, eps=1e-5):
    a, b = ((x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt() for x in p)
    c = a.T @ b / len(a)
    return scale * ((1 - c.diag()).square().sum() + weight * off_diagonal(c).square().sum())


def vicreg(p, _, weights=(25, 25, 1)):
    invariance = (p[0] - p[1]).square().mean()
    variance = sum(relu(1 - (x.var(0) + 1e-4).sqrt()).mean() for x in p) / 2
    covariance = sum(off_diagonal(torch.cov(x.T)).square().sum() / x.shape[1] for x in p)
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def moco_v3(p, z, tau=0.2):
    total = 0
    for q, k in ((p[0], z[1]), (p[1], z[0])):
        logits = normalize(q) @ normalize(k).T / tau
        total = total + 2 * tau * (torch.logsumexp(logits, 1) - logits.diag()).mean()
    return total


def simclr(p, _, tau=0.2):
    every = normalize(torch.cat([p[0], p[1]]))
    size = len(p[0])
    total = 0
    for i in range(2 * size):
        similar = (every @ every[i]) / tau
        others = [j for j in range(2 * size) if j != i]
        total = total + torch.logsumexp(similar[others], 0) - similar[(i + size) % (2 * size)]
    return total / (2 * size)


def lejepa(p, _, weight=0.05):
    z = torch.stack(list(p))
    invariance = (z - z.mean(0)).square().mean()
    directions = normalize(torch.randn(z.shape[-1], 1024, dtype=z.dtype), dim=0)
    t = torch.linspace(-3, 3, 33)  # 17 nodes from 0 to 3 and their mirror images
    prior = torch.exp(-t.square() / 2).to(z.dtype)  # lightly's table is float32, so this is, too
    total = 0
    for view in z:
        function = torch.exp(1j * (view @ directions)[..., None] * t).mean(0)
        integrand = (function - prior).abs().square() * prior
        total = total + len(view) * torch.trapezoid(integrand, t.to(z.dtype)).mean() / len(z)
    return (1 - weight) * invariance + weight * total


def mc_infonce(p, _, tau=0.2, particles=16):
    """Sample by sample and anchor by anchor: the chance that an anchor finds its other view."""
    size, natural = len(p[0]), torch.stack(list(p))
    kappa = natural.norm(dim=-1)
    law = PowerSpherical(natural / kappa[..., None], concentration=kappa)
    draws = law.rsample((particles,)).flatten(1, 2)
    total = 0
    for i in range(2 * size):
        chance = 0
        for z in draws:
            odds = torch.exp(z @ z[i] / tau)
            chance = chance + odds[(i + size) % (2 * size)] / (odds.sum() - odds[i]) / particles
        total = total - chance.log()
    return total / (2 * size)


PAIRWISE = [simsiam, byol, barlow_twins, vicreg, moco_v3, simclr]
FORMULAS = dict(zip(BASELINES, [*PAIRWISE, lejepa, mc_infonce], strict=True))
each = pytest.mark.parametrize("name", BASELINES)


@each
def test_the_loss_and_its_gradient_are_those_of_the_formula(name):
    torch.manual_seed(3)
    dim = 5 if name == "MCInfoNCE" else 12
    outputs, targets = 2 * torch.randn(2, 2, 11, dim, dtype=torch.float64) + 0.3
    ours, expected = (outputs.clone().requires_grad_() for _ in range(2))
    total, _ = seeded(make(name).compare, ours, targets)
    formula = seeded(FORMULAS[name], expected, targets)
    torch.testing.assert_close(total, formula, rtol=1e-9, atol=1e-9)
    (got,) = torch.autograd.grad(total, ours)
    (wanted,) = torch.autograd.grad(formula, expected)
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", BASELINES[: len(PAIRWISE)])
def test_more_views_are_compared_in_pairs(name):
    torch.manual_seed(3)
    outputs, targets = torch.randn(2, 3, 11, 12, dtype=torch.float64)
    total, _ = make(name).compare(outputs, targets)
    pairs = [FORMULAS[name](outputs[[*ij]], targets[[*ij]]) for ij in combinations(range(3), 2)]
    torch.testing.assert_close(total, sum(pairs) / 3, rtol=1e-9, atol=1e-9)


def test_lejepa_compares_more_views_with_their_mean_along_new_directions():
    torch.manual_seed(3)
    method, outputs = make("LeJEPA"), torch.randn(3, 11, 12, dtype=torch.float64)
    total, parts = seeded(method.compare, outputs, outputs)
    torch.testing.assert_close(total, seeded(lejepa, outputs, None), rtol=1e-9, atol=1e-9)
    assert parts["invariance"] == 0.95 * (outputs - outputs.mean(0)).square().mean()
    torch.testing.assert_close(parts["invariance"] + parts["sigreg"], total)
    assert method.compare(outputs, outputs)[0] != total  # from torch's generator


@each
def test_loss_of_views_and_the_gradient_in_the_encoder(name):
    ours, other = make(name), make(name)
    for module in (ours, other):
        if name in TAUGHT:  # somewhere else than its student
            torch.manual_seed(5)
            for parameter in module.teacher.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    loss = seeded(ours.loss, views)
    projections = [other.projector(other.encoder(view)) for view in views]
    outputs = [other.predictor(z) for z in projections] if other.predictor else projections
    targets = [other.teacher.module(view) for view in views] if name in TAUGHT else [
        z.detach() for z in projections
    ]  # fmt: skip
    expected = seeded(FORMULAS[name], outputs, targets)
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    expected.backward()
    for one, two in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)


def test_the_parts_of_vicreg_add_up():
    three = random_views(3)
    parts = (
        make("VICReg", invariance_weight=2.0, variance_weight=3.0, covariance_weight=4.0)
        .loss(three)
        .parts
    )
    method = make("VICReg")
    z = torch.stack([method.projector(method.encoder(view)) for view in three]).detach()
    for name, weights in {
        "invariance": (2, 0, 0),
        "variance": (0, 3, 0),
        "covariance": (0, 0, 4),
    }.items():
        expected = sum(vicreg(z[[*ij]], None, weights) for ij in combinations(range(3), 2)) / 3
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-5)


def test_the_models_are_imported_without_lightly(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightly", None)
    folder = Path(vje_pyro.models.__file__).parent
    classes = [getattr(vje_pyro.models, METHODS[name][0]) for name in BASELINES]
    for module in ("_joint_embedding", *(c.__module__.split(".")[-1] for c in classes)):
        assert callable(runpy.run_path(str(folder / f"{module}.py"))["lightly"])
