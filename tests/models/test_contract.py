"""What every method promises: a row of ``small.METHODS`` is all that a new one needs."""

import copy
import math
import sys
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from commandline import run_cli
from lightning_fabric import Fabric
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from small import (
    BASELINES,
    METHODS,
    PROBABILISTIC,
    PROGRAMS,
    SETTINGS,
    TAUGHT,
    D,
    Encoder,
    P,
    gradients,
    make,
    random_views,
    seeded,
)

from vje_pyro.building import build
from vje_pyro.data import ImageArray, ResidentLoader
from vje_pyro.diagnostics import require_posterior
from vje_pyro.distributions import PowerSpherical, RadialStudentT, SphericalStudentT, VonMisesFisher
from vje_pyro.encoders import cosine_momentum
from vje_pyro.errors import VJEError
from vje_pyro.inference import SymmetricELBO
from vje_pyro.method import Loss, Method, ProbabilisticMethod
from vje_pyro.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vje_pyro.training.loop import Trainer
from vje_pyro.training.optim import param_groups

PARTS = {
    "VJE": {"elbo", "direction", "radius", "kl"},
    "VSSL": {"elbo", "denoised", "kl"},
    "VISimSiam": {"elbo", "direction", "kl"},
    "VICReg": {"invariance", "variance", "covariance"},
    "LeJEPA": {"invariance", "sigreg"},
}
MONITORS = {
    "VJE": {"angle", "scale_mean", "scale_std", "clamp_fraction"},
    "VSSL": {"angle", "scale_mean", "scale_std", "clamp_fraction", "std"},
    "VISimSiam": {"concentration", "cosine", "std", "clamp_fraction"},
    "MCInfoNCE": {"std", "concentration", "clamp_fraction"},
}
every = pytest.mark.parametrize("name", METHODS)
views = random_views()


@every
def test_the_protocol(name):
    method, kind = make(name), METHODS[name][0]
    assert isinstance(method, Method)
    assert isinstance(method, ProbabilisticMethod) == (name in PROBABILISTIC)
    assert method.num_features == copy.deepcopy(method).num_features == D
    loss = method.loss(views)
    assert isinstance(loss, Loss)
    assert torch.isfinite(loss.total)
    assert set(loss.parts) == PARTS.get(kind, set())
    assert set(loss.monitors) == MONITORS.get(kind, {"std"})
    assert not any(v.requires_grad for v in [*loss.parts.values(), *loss.monitors.values()])


@every
def test_every_weight_is_trained_but_those_of_a_teacher(name):
    method = make(name)
    method.loss(views).total.backward()
    teacher = [p for n, p in method.named_parameters() if n.startswith("teacher.")]
    assert bool(teacher) == (name in TAUGHT)
    assert all(p.grad is None for p in teacher)
    trained = {id(p) for group in param_groups(method) for p in group["params"]}
    assert trained.isdisjoint(map(id, teacher))
    still = [n for n, g in gradients(method).items() if not 0 < g.abs().sum() < math.inf]
    assert still == []


@every
@pytest.mark.parametrize("num_views", [2, 3])
def test_encoder_and_teacher_run_once_per_view(name, num_views):
    method = make(name)
    method.loss(random_views(num_views)).total.backward()
    assert method.encoder.calls == num_views
    if name in TAUGHT:
        calls = [m.calls for m in method.teacher.modules() if isinstance(m, Encoder)]
        assert calls == [num_views]


@every
def test_features_and_loss_are_float32_under_autocast(name, monkeypatch):
    method, seen = make(name), []
    if name in BASELINES:
        compare = method.compare

        def watched(*compared):
            seen.extend([*(x.dtype for x in compared), torch.is_autocast_enabled("cpu")])
            return compare(*compared)

        monkeypatch.setattr(method, "compare", watched)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(views)
        assert method.embed(views[0]).dtype == torch.float32
        if name in PROBABILISTIC:
            assert method.encode(views[0]).dtype == torch.float32
            assert method.posterior(views[0]).mean.dtype == torch.float32
        if name.startswith("VSSL"):
            assert method.prior(views[0]).mean.dtype == torch.float32
    assert seen in ([], [torch.float32, torch.float32, False])
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.total)
    loss.total.backward()


@every
def test_features_are_the_encoders(name):
    method = make(name).eval()
    assert torch.equal(method.embed(views[0]), method.encoder(views[0]))
    assert method.embed(views[0]).shape == (8, D)


@every
def test_save_and_load_give_identical_embeddings_and_losses(name, tmp_path):
    method, again = make(name), make(name)
    optimizer = torch.optim.SGD(param_groups(method), lr=0.1)
    for _ in range(2):
        method.loss(views).total.backward()
        optimizer.step()
        method.after_step(0.5)
    assert not torch.equal(method.encoder.linear.weight, again.encoder.linear.weight)
    save_checkpoint(Checkpoint(2, 0, method.state_dict()), tmp_path / "m.safetensors")
    again.load_state_dict(load_checkpoint(tmp_path / "m.safetensors").model)
    both = (method.eval(), again.eval())
    assert torch.equal(*(m.embed(views[0]) for m in both))
    assert torch.equal(*(seeded(m.loss, views).total for m in both))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_is_bit_equal(name, tmp_path):
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (40, 3, 4, 4), generator=generator).to(torch.uint8)
    data = ImageArray(images, torch.zeros(40, dtype=torch.long))

    def train(folder, resume=False, fail_at=None):
        calls, method = [], make(name)

        def two_views(batch):
            calls.append(1)
            if len(calls) == fail_at:
                raise RuntimeError("stopped by the test")
            clean = batch.float() / 128 - 1
            return torch.stack([clean + 0.3 * torch.randn_like(clean) for _ in range(2)])

        Trainer(
            method, ResidentLoader(data, 8, seed=0, device="cpu"), two_views,
            fabric=Fabric(accelerator="cpu", devices=1), run_dir=tmp_path / folder, epochs=1,
            optimizer=partial(torch.optim.AdamW, lr=5e-3), checkpoint_every_steps=1,
            progress=False, resume=resume,
        ).fit()  # fmt: skip
        return method.state_dict()

    whole = train("whole")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train("parts", fail_at=4)
    parts = train("parts", resume=True)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


@every
def test_nothing_is_moved_to_the_host_in_a_step(name, host_moves):
    method = make(name)
    if name == "MCInfoNCE":
        method.law = partial(PowerSpherical, validate_args=False)
    method.loss(views)  # the Bessel function's coefficients are computed once
    host_moves.clear()
    with pyro.validation_enabled(False):
        method.loss(views).total.backward()
        if name.startswith("VSSL"):
            method.after_step(0.5)
        assert host_moves == []
        float(torch.ones(()))  # the spies do see
    assert host_moves


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("momentum", [0.6, 0.99])
def test_the_teacher_follows_with_its_momentum(name, momentum):
    knob = "target_momentum" if name.startswith("VJE") else "momentum"
    method = make(name, **{knob: momentum})
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(1.0)
    teacher = list(method.teacher.parameters())
    before = [p.clone() for p in teacher]
    student = list(method._student().parameters() if hasattr(method, "_student")
                   else method.encoder.parameters())  # fmt: skip
    method.after_step(0.25)
    m = cosine_momentum(momentum, 0.25)
    for old, new, target in zip(before, teacher, student, strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * target.detach())
    final = [p.clone() for p in teacher]
    method.after_step(1.0)  # the momentum has come to one
    assert all(map(torch.equal, final, teacher))


@pytest.mark.parametrize("name", BASELINES)
def test_the_monitor_tells_collapse(name):
    method, many = make(name, output_dim=12), random_views(batch=64)
    assert 0.5 < float(method.loss(many).monitors["std"]) < 1.2
    constant = torch.nn.Linear(D, 12)
    torch.nn.init.zeros_(constant.weight)  # all images get one projection
    if name == "MCInfoNCE":
        method.projector.head = constant
    else:
        method.projector = constant
    assert float(method.loss(many).monitors["std"]) < 1e-3


# ------------------------------------------------------------------- those that are probabilistic


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_posterior_uncertainty_and_log_likelihood_of_images(name):
    method, kind = (
        make(name, **({} if name == "MCInfoNCE" else {"beta": 0.5})).eval(),
        METHODS[name][0],
    )
    dim = D if kind == "VJE" else P
    terms = method.log_likelihood(views[0], views[1], num_samples=4)
    assert set(terms) == PARTS.get(kind, {"elbo", "direction", "kl"})
    assert all(v.shape == (8,) for v in terms.values())
    likelihood = sum(v for key, v in terms.items() if key not in ("elbo", "kl"))
    beta = 0.5 if kind == "VISimSiam" else 1  # only there it is a part of the objective's meaning
    torch.testing.assert_close(terms["elbo"], likelihood - beta * terms["kl"])
    q = method.posterior(views[0])
    assert (q.batch_shape, q.event_shape) == ((8,), (dim,))
    uncertainty = method.uncertainty(views[0])
    assert uncertainty.shape == (8,)
    assert uncertainty.std() > 0
    if kind in ("VISimSiam", "MCInfoNCE"):
        torch.testing.assert_close(uncertainty, -q.concentration.log())
        return
    torch.testing.assert_close(
        uncertainty, q.entropy() / dim - 0.5 * math.log(2 * math.pi * math.e)
    )
    standard = pyro.distributions.Normal(torch.zeros(dim), 1.0).to_event(1)
    prior = method.prior(views[1]) if kind == "VSSL" else standard
    torch.testing.assert_close(terms["kl"], torch.distributions.kl_divergence(q, prior))


@pytest.mark.parametrize("name", PROGRAMS)
def test_pyros_elbo_and_classic_svi_give_the_trainers_gradients(name):
    beta = {"beta": 0.3} if name.startswith("VIS") else {}  # a factor of its model
    trained, by_pyro, by_module, by_svi = (make(name, **beta) for _ in range(4))
    dim, captured = D if name.startswith("VJE") else P, {}
    loss = seeded(trained.loss, views).total  # per dimension, and of the mean over pairs
    loss.backward()
    seeded(SymmetricELBO()(by_module.model, by_module.guide), *by_module.pairs(views)).backward()
    svi = SVI(by_svi.model, by_svi.guide, pyro.optim.SGD({"lr": 0.1}), loss=SymmetricELBO())
    svi.optim = lambda parameters: captured.update({id(p): p.grad.clone() for p in parameters})
    seeded(svi.step, *by_svi.pairs(views))
    assert captured.keys() == {id(p) for p in by_svi.parameters() if p.requires_grad}
    captured = {n: captured[id(p)] for n, p in by_svi.named_parameters() if p.requires_grad}
    by_others = [captured, gradients(by_module)]
    if not name.startswith("VJE"):  # of whose radius Pyro's bound needs no closed form either
        elbo = TraceMeanField_ELBO if name.startswith("VSSL") else Trace_ELBO
        total = seeded(elbo()(by_pyro.model, by_pyro.guide), *by_pyro.pairs(views)) / 16
        torch.testing.assert_close(total / dim, loss)
        total.backward()
        by_others.append(gradients(by_pyro))
    for key, gradient in gradients(trained).items():
        for other in by_others:
            torch.testing.assert_close(other[key] / dim, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["VJE", "VISimSiam"])
def test_classic_svi_moves_the_encoders_weights(name):
    method = make(name)
    before = method.encoder.linear.weight.detach().clone()
    adam = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(method.model, method.guide, adam, loss=SymmetricELBO())
    losses = [svi.step(*method.pairs(views)) for _ in range(30)]
    assert (method.encoder.linear.weight - before).abs().max() > 0.01
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_generative_model_runs_forward(name):
    method = make(name).eval()
    with torch.no_grad():
        *arguments, target = method.pairs(views)
        nodes = pyro.poutine.trace(method.model).get_trace(*arguments).nodes
    (site,) = {"direction", "denoised"} & nodes.keys()
    assert nodes[site]["value"].shape == target.shape
    if name.startswith("VSSL"):
        assert torch.equal(nodes["z"]["fn"].mean, arguments[1].mean)
    else:
        torch.testing.assert_close(nodes[site]["value"].norm(dim=-1), torch.ones(16))
    assert "radius" not in nodes or (nodes["radius"]["value"] > 0).all()


@pytest.mark.parametrize("name", ["VSSL", "VISimSiam", "MCInfoNCE"])
def test_a_diagnosis_is_refused_with_what_is_missing(name):
    with pytest.raises(VJEError, match=f"{name} cannot be diagnosed"):
        require_posterior(make(name))


@pytest.mark.parametrize(
    ("name", "parts"),
    [("VISimSiam", ["concentration"]), ("MCInfoNCE", ["projector", "concentration"])],
)
def test_the_concentration_stays_within_its_bounds(name, parts):
    method = make(name, max_ratio=10.0)
    network = method.get_submodule(".".join(parts))
    with torch.no_grad():
        network[-1].bias.fill_(100.0)
    assert method.loss(views).monitors["clamp_fraction"] == 1
    kappa = method.eval().posterior(views[0]).concentration
    torch.testing.assert_close(kappa, torch.full((8,), 10.0 * P))


# ------------------------------------------------------------------------------------- bad input

BAD = [
    *((name, {"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5")
      for name in ("BYOL", "MoCoV3", "VSSL")),
    *((name, {"temperature": 0.0}, "temperature must be positive, got 0.0")
      for name in ("MoCoV3", "SimCLR", "MCInfoNCE")),
    *((name, {"beta": -1.0}, "beta must be finite and not negative, got -1.0")
      for name in ("VSSL", "VISimSiam", "VJE")),
    *((name, {"output_dim": 2}, "output_dim must be at least 3.*got 2")
      for name in ("VSSL", "VISimSiam", "MCInfoNCE")),
    *((name, {"max_ratio": 1.0}, "max_ratio must be finite and above 1, got 1.0")
      for name in ("VISimSiam", "MCInfoNCE")),
    ("BarlowTwins", {"scale": 0.0}, "scale must be .*, got 0.0"),
    ("LeJEPA", {"sigreg_weight": 1.5}, "sigreg_weight must be .*, got 1.5"),
    ("MCInfoNCE", {"num_particles": 0}, "num_particles must be .*, got 0"),
    ("MCInfoNCE", {"hidden_dim": 0}, "hidden_dim must be .*, got 0"),
    ("MCInfoNCE", {"law": VonMisesFisher},
     r"law must have samples with gradients \(rsample\); VonMisesFisher has none"),
    ("MCInfoNCE", {"law": partial(VonMisesFisher, validate_args=False)}, "VonMisesFisher has none"),
    ("VSSL", {"hidden_dim": 0}, "must be positive.*got 6, 0"),
    ("VSSL", {"min_scale": 2.0, "max_scale": 1.0}, "0 < min_scale < max_scale, got 2.0 and 1.0"),
    ("VSSL", {"likelihood": "exact"}, r"likelihood must be one of .*, got 'exact'"),
    ("VSSL", {"kl": "exact"}, r"kl must be one of \('gaussian', 'cosine'\), got 'exact'"),
    ("VISimSiam", {"hidden_dim": 0}, "hidden_dim positive.*got 5 and 0"),
    ("VISimSiam", {"predictor_dim": 0}, "must be positive.*got 5, 0"),
    ("VJE", {"encoder": Encoder(2)}, "at least 3, got 2"),
    ("VJE", {"kl": "exact"}, "kl must be"),
    ("VJE", {"projector_dim": 0}, "hidden_features must be positive"),
    ("VJE", {"reference_radius": -1.0}, "reference_radius must be positive and finite.*got -1"),
    ("VJE", {"target_grad": "ema"}, "target_grad must be 'stop' or 'flow', got 'ema'"),
    ("VJE", {"target_momentum": 1.5}, r"target_momentum must be in \[0, 1\]"),
    ("VJE", {"target_momentum": 0.9, "target_grad": "flow"}, "got 0.9 with target_grad='flow'"),
    ("VJE", {"direction": partial(SphericalStudentT, df=-1.0)}, "direction.*parameter df"),
    ("VJE", {"radius": partial(RadialStudentT, scale=0.0, df=1.0)}, "radius.*parameter scale"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "overrides", "message"), BAD)
def test_bad_arguments_are_named(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(name, **overrides)


@every
def test_one_view_is_refused(name):
    with pytest.raises(ValueError, match=r"at least (2|two)"):
        make(name).loss(random_views(1))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_without_lightly_says_which_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly.models.modules.heads", None)
    encoder = {"_target_": "vje_pyro.encoders.SmallResNet"}
    for attempt in (
        lambda: make(name),
        lambda: build({"_target_": f"vje_pyro.models.{name}", "encoder": encoder}),
    ):
        with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[baselines\]'"):
            attempt()


# ------------------------------------------------------------------------------------ in training


@pytest.mark.parametrize(("name", "falls"), [("VSSL", 0.3), ("VISimSiam", 0.1)])
def test_training_lowers_the_loss_and_does_not_collapse(name, falls, tmp_path, digits):
    sizes = {"predictor_dim": 32} if name == "VISimSiam" else {}
    method = make(name, encoder=digits.encoder(), hidden_dim=64, output_dim=32, **sizes)
    untrained = digits.knn(method)
    losses = digits.train(method, tmp_path / "run", epochs=4)
    assert losses[-1] < losses[0] - falls
    assert digits.knn(method) > untrained + 0.06


@pytest.mark.parametrize(
    ("choice", "sizes"),
    [("vssl", {}), ("vi_simsiam", {"predictor_dim": 8}), ("mc_infonce", {"num_particles": 2})],
)
def test_it_is_trained_evaluated_reported_and_loaded_by_name(
    choice, sizes, tmp_path, digits, capsys
):
    sizes = {"hidden_dim": 16, "output_dim": 8} | sizes
    run = digits.by_command(choice, tmp_path, *(f"method.{k}={v}" for k, v in sizes.items()))
    images = run.source.split("test").images[:5]
    assert run.posterior(images).event_shape == (8,)
    elbo = run.log_likelihood(images)["elbo"]
    assert elbo.shape == (5,)
    assert np.isfinite(elbo.numpy()).all()
    assert run.method.uncertainty(run.normalize(images)).shape == (5,)
    capsys.readouterr()
    assert run_cli("diagnose", run.path) != 0
    assert "cannot be diagnosed" in capsys.readouterr().err
