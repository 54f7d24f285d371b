"""The baselines: their losses against formulas written out here, gradients, teachers, knobs."""

import copy
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize, relu

import vje_pyro.models
from vje_pyro.building import build
from vje_pyro.distributions import PowerSpherical
from vje_pyro.encoders import SmallResNet, cosine_momentum
from vje_pyro.errors import VJEError
from vje_pyro.method import Method
from vje_pyro.models import (
    BYOL,
    BarlowTwins,
    LeJEPA,
    MCInfoNCE,
    MoCoV3,
    SimCLR,
    SimSiam,
    VICReg,
)
from vje_pyro.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vje_pyro.training.optim import param_groups

pytest.importorskip("lightly", reason="lightly is an extra")

MODELS = Path(vje_pyro.models.__file__).parent
METHODS = [SimSiam, BYOL, BarlowTwins, VICReg, MoCoV3, SimCLR, LeJEPA, MCInfoNCE]
TAUGHT = [BYOL, MoCoV3]
PREDICTING = [SimSiam, BYOL, MoCoV3]
KNOBS = [
    (SimSiam, "predictor_dim", 7),
    (BYOL, "predictor_dim", 7),
    (BarlowTwins, "redundancy_weight", 0.1),
    (BarlowTwins, "scale", 0.5),
    (VICReg, "num_layers", 2),
    (VICReg, "invariance_weight", 3.0),
    (VICReg, "variance_weight", 3.0),
    (VICReg, "covariance_weight", 3.0),
    (MoCoV3, "num_layers", 3),
    (MoCoV3, "predictor_dim", 7),
    (MoCoV3, "temperature", 0.7),
    (SimCLR, "num_layers", 3),
    (SimCLR, "batch_norm", False),
    (SimCLR, "temperature", 0.7),
    (LeJEPA, "num_layers", 2),
    (LeJEPA, "sigreg_weight", 0.2),
    (MCInfoNCE, "num_layers", 3),
    (MCInfoNCE, "temperature", 0.7),
    (MCInfoNCE, "num_particles", 3),
    (MCInfoNCE, "max_ratio", 1.1),
] + [(method, knob, 5) for method in METHODS for knob in ("hidden_dim", "output_dim")]


def make(method, **knobs):
    torch.manual_seed(0)
    settings = {"hidden_dim": 24, "output_dim": 12, **knobs}
    if method in PREDICTING:
        settings.setdefault("predictor_dim", 8)
    return method(SmallResNet(1, widths=(6, 10), stem_width=4), **settings)


def random_views(num_views=2, batch=9):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_views, batch, 1, 8, 8, generator=generator)


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


# ----------------------------------------------------- the losses, of one pair of views, in float64


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
FORMULAS = dict(zip(METHODS, [*PAIRWISE, lejepa, mc_infonce], strict=True))


def seeded(function, *arguments):
    """Its value where LeJEPA and MC-InfoNCE draw the same directions every time."""
    torch.manual_seed(7)
    return function(*arguments)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_and_its_gradient_are_those_of_the_formula(method):
    torch.manual_seed(3)
    outputs, targets = 2 * torch.randn(2, 2, 11, 12, dtype=torch.float64) + 0.3
    ours, expected = (outputs.clone().requires_grad_() for _ in range(2))
    total, _ = seeded(make(method).compare, ours, targets)
    formula = seeded(FORMULAS[method], expected, targets)
    torch.testing.assert_close(total, formula, rtol=1e-9, atol=1e-9)
    (got,) = torch.autograd.grad(total, ours)
    (wanted,) = torch.autograd.grad(formula, expected)
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS[: len(PAIRWISE)])
def test_more_views_are_compared_in_pairs(method):
    torch.manual_seed(3)
    outputs, targets = torch.randn(2, 3, 11, 12, dtype=torch.float64)
    total, _ = make(method).compare(outputs, targets)
    pairs = [
        FORMULAS[method](outputs[[i, j]], targets[[i, j]]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    torch.testing.assert_close(total, sum(pairs) / 3, rtol=1e-9, atol=1e-9)


def test_lejepa_compares_more_views_with_their_mean():
    torch.manual_seed(3)
    outputs = torch.randn(3, 11, 12, dtype=torch.float64)
    total, parts = seeded(make(LeJEPA).compare, outputs, outputs)
    torch.testing.assert_close(total, seeded(lejepa, outputs, None), rtol=1e-9, atol=1e-9)
    assert parts["invariance"] == 0.95 * (outputs - outputs.mean(0)).square().mean()
    torch.testing.assert_close(parts["invariance"] + parts["sigreg"], total)


def test_lejepa_draws_new_directions_from_torchs_generator():
    method, z = make(LeJEPA), torch.randn(2, 11, 12)
    first, second = seeded(method.compare, z, z)[0], method.compare(z, z)[0]
    assert first != second
    assert torch.equal(seeded(method.compare, z, z)[0], first)


def recomputed(method, views):
    """Outputs and targets of the views, from the parts of a method."""
    projections = [method.projector(method.encoder(view)) for view in views]
    outputs = projections
    if hasattr(method, "predictor") and method.predictor is not None:
        outputs = [method.predictor(z) for z in projections]
    targets = [z.detach() for z in projections]
    if hasattr(method, "teacher"):
        targets = [method.teacher.module(view) for view in views]
    return outputs, targets


@pytest.mark.parametrize("method", METHODS)
def test_loss_of_views_and_the_gradient_in_the_encoder(method):
    ours, other = make(method), make(method)
    for module in (ours, other):
        if method in TAUGHT:  # somewhere else than its student
            torch.manual_seed(5)
            for parameter in module.teacher.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    loss = seeded(ours.loss, random_views())
    expected = seeded(FORMULAS[method], *recomputed(other, random_views()))
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    expected.backward()
    for (name, one), two in zip(ours.named_parameters(), other.parameters(), strict=True):
        if name.startswith("teacher."):
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)
    assert all(float(p.grad.abs().sum()) > 0 for p in ours.encoder.parameters())


def test_the_parts_of_vicreg_add_up():
    method = make(VICReg, invariance_weight=2.0, variance_weight=3.0, covariance_weight=4.0)
    loss = method.loss(random_views(num_views=3))
    z = torch.stack(recomputed(make(VICReg), random_views(num_views=3))[0]).detach()
    pairs = [z[[0, 1]], z[[0, 2]], z[[1, 2]]]
    for name, weights in (
        ("invariance", (2, 0, 0)), ("variance", (0, 3, 0)), ("covariance", (0, 0, 4)),
    ):  # fmt: skip
        expected = sum(vicreg(pair, None, weights) for pair in pairs) / 3
        torch.testing.assert_close(loss.parts[name], expected, rtol=1e-4, atol=1e-5)
        assert not loss.parts[name].requires_grad


# ---------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("method", METHODS)
def test_the_protocol(method):
    made = make(method)
    assert isinstance(made, Method)
    assert (type(made).after_step is not Method.after_step) == (method in TAUGHT)
    assert made.num_features == 10
    images = torch.randn(5, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made.embed(images).dtype == torch.float32
    made.eval()
    assert torch.equal(made.embed(images), made.encoder(images))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_views", [2, 3])
def test_the_encoder_runs_once_per_view(method, num_views):
    made, batches = make(method), []
    made.encoder.register_forward_hook(lambda _, args, __: batches.append(len(args[0])))
    made.loss(random_views(num_views))
    assert batches == [9] * num_views


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_compared_in_float32_under_autocast(method, monkeypatch):
    made, seen = make(method), []
    compare = made.compare

    def watched(outputs, targets):
        seen.extend([outputs.dtype, targets.dtype, torch.is_autocast_enabled("cpu")])
        return compare(outputs, targets)

    monkeypatch.setattr(made, "compare", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = made.loss(random_views())
    assert seen == [torch.float32, torch.float32, False]
    assert loss.total.dtype == torch.float32
    loss.total.backward()


@pytest.mark.parametrize("method", METHODS)
def test_the_monitor_tells_collapse(method):
    made = make(method)
    healthy = made.loss(random_views(batch=64)).monitors["std"]
    assert 0.5 < float(healthy) < 1.2
    constant = torch.nn.Linear(10, 12)
    torch.nn.init.zeros_(constant.weight)  # all images get one projection
    if method is MCInfoNCE:
        made.projector.head = constant
    else:
        made.projector = constant
    assert float(made.loss(random_views(batch=64)).monitors["std"]) < 1e-3


@pytest.mark.parametrize("method", TAUGHT)
def test_the_teacher_follows(method):
    made = make(method, momentum=0.6)
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in made.teacher.parameters()]
    made.after_step(0.25)
    m = cosine_momentum(0.6, 0.25)
    student = [*made.encoder.parameters(), *made.projector.parameters()]
    for old, new, target in zip(before, made.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * target.detach())
    trained = {id(p) for group in param_groups(made) for p in group["params"]}
    assert trained.isdisjoint(id(p) for p in made.teacher.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load_give_identical_embeddings(method, tmp_path):
    made = make(method)
    optimizer = torch.optim.SGD(param_groups(made), lr=0.1)
    for _ in range(2):
        made.loss(random_views()).total.backward()
        optimizer.step()
        if method in TAUGHT:
            made.after_step(0.5)
    save_checkpoint(Checkpoint(2, 0, made.state_dict()), tmp_path / "m.safetensors")
    torch.manual_seed(9)
    again = method(
        SmallResNet(1, widths=(6, 10), stem_width=4), hidden_dim=24, output_dim=12,
        **({"predictor_dim": 8} if method in PREDICTING else {}),
    )  # fmt: skip
    again.load_state_dict(load_checkpoint(tmp_path / "m.safetensors").model)
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(made.eval().embed(images), again.eval().embed(images))
    losses = [seeded(module.loss, random_views()).total for module in (made, again)]
    assert torch.equal(*losses)
    assert copy.deepcopy(made).num_features == 10


# ------------------------------------------------------------------------------------ the knobs


@pytest.mark.parametrize(("method", "knob", "value"), KNOBS)
def test_every_knob_changes_the_loss(method, knob, value):
    default, changed = make(method), make(method, **{knob: value})
    losses = [seeded(module.loss, random_views()).total for module in (default, changed)]
    assert not torch.allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize("method", TAUGHT)
def test_the_momentum_changes_the_teacher(method):
    teachers = []
    for momentum in (0.5, 0.9):
        made = make(method, momentum=momentum)
        with torch.no_grad():
            made.encoder.stem[0].weight.add_(1.0)
        made.after_step(0.5)
        teachers.append(made.teacher.module[0].stem[0].weight)
    assert not torch.allclose(*teachers)


@pytest.mark.parametrize("method", METHODS)
def test_one_view_is_refused(method):
    with pytest.raises(ValueError, match=rf"{method.__name__} compares views: .*at least 2, got 1"):
        make(method).loss(random_views(1))


@pytest.mark.parametrize(
    ("method", "knob", "value"),
    [
        (BYOL, "momentum", 1.5),
        (MoCoV3, "momentum", -0.1),
        (MoCoV3, "temperature", 0.0),
        (SimCLR, "temperature", -1.0),
        (BarlowTwins, "scale", 0.0),
        (LeJEPA, "sigreg_weight", 1.5),
        (MCInfoNCE, "temperature", 0.0),
        (MCInfoNCE, "num_particles", 0),
        (MCInfoNCE, "hidden_dim", 0),
        (MCInfoNCE, "output_dim", 2),
        (MCInfoNCE, "max_ratio", 1.0),
    ],
)
def test_a_knob_out_of_range_is_named(method, knob, value):
    with pytest.raises(ValueError, match=rf"{knob} must be .*, got {value}"):
        make(method, **{knob: value})


@pytest.mark.parametrize("method", METHODS)
def test_a_baseline_without_lightly_says_which_extra(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly.models.modules.heads", None)
    with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[baselines\]'"):
        make(method)
    target = f"vje_pyro.models.{method.__name__}"
    encoder = {"_target_": "vje_pyro.encoders.SmallResNet"}
    with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[baselines\]'"):
        build({"_target_": target, "encoder": encoder})


def test_the_models_are_imported_without_lightly(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightly", None)
    for module in ("_joint_embedding", *(method.__module__.split(".")[-1] for method in METHODS)):
        names = runpy.run_path(str(MODELS / f"{module}.py"))
        assert callable(names["lightly"])
