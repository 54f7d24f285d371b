import copy
import math

import pyro
import pytest
import torch
from commandline import run_cli
from pyro.infer import TraceMeanField_ELBO
from scipy import special, stats
from small import Encoder, gradients
from torch.nn.functional import normalize

from vje_pyro.diagnostics import require_posterior
from vje_pyro.errors import VJEError
from vje_pyro.inference import SymmetricELBO
from vje_pyro.method import Loss, Method, ProbabilisticMethod
from vje_pyro.models import VSSL
from vje_pyro.training.optim import param_groups

P = 5
FORMS = [
    {},
    {"kl": "cosine"},
    {"likelihood": "cosine"},
    {"kl": "cosine", "likelihood": "cosine"},
]


def make(**overrides):
    """A method whose teacher is not its student any more."""
    torch.manual_seed(0)
    method = VSSL(**({"encoder": Encoder(), "hidden_dim": 16, "output_dim": P} | overrides))
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def seeded_loss(method, views, seed=2):
    torch.manual_seed(seed)
    return method.loss(views)


def test_it_obeys_the_protocols(views):
    method = make()
    assert isinstance(method, Method)
    assert isinstance(method, ProbabilisticMethod)
    loss = method.loss(views)
    assert isinstance(loss, Loss)
    assert set(loss.parts) == {"elbo", "denoised", "kl"}
    assert set(loss.monitors) == {"angle", "scale_mean", "scale_std", "clamp_fraction", "std"}
    assert not any(v.requires_grad for v in [*loss.parts.values(), *loss.monitors.values()])


@pytest.mark.parametrize("num_views", [2, 3])
def test_student_and_teacher_run_once_per_view(num_views):
    method = make()
    method.loss(torch.randn(num_views, 8, 3, 4, 4)).total.backward()
    assert method.encoder.calls == num_views
    assert method.teacher.module[0].calls == num_views


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_loss_is_the_formula_written_by_hand(forms, views):
    loss = seeded_loss(make(beta=0.7, **forms), views)

    method = make(beta=0.7, **forms)  # batch norm statistics as before
    with torch.no_grad():
        student = [method.head(method.encoder(v)) for v in views]
        teacher = [method.teacher(v) for v in views]
    mu_s, sigma_s = (torch.cat(x) for x in zip(*student, strict=True))
    mu_t, sigma_t = (torch.cat(x) for x in zip(*teacher[::-1], strict=True))
    if forms.get("kl") == "cosine":
        mu_s, mu_t = (math.sqrt(P) * m / m.norm(dim=1, keepdim=True) for m in (mu_s, mu_t))
    torch.manual_seed(2)
    z = mu_s + sigma_s * torch.randn(16, P)
    with torch.no_grad():
        g = method.denoiser(z)
    tensors = (mu_s, sigma_s, mu_t, sigma_t, g)
    mu_s, sigma_s, mu_t, sigma_t, g = (x.double().numpy() for x in tensors)

    distance = (mu_s - mu_t) ** 2
    ratio = sigma_s / sigma_t
    kl = 0.5 * (ratio**2 + distance / sigma_t**2 - 1 - 2 * special.log1p(ratio - 1)).sum(1)
    if forms.get("likelihood") == "cosine":
        kappa = P / (sigma_s**2).mean(1)
        unit_g, unit_t = (normalize(torch.tensor(x), dim=1).numpy() for x in (g, mu_t))
        likelihood = [
            stats.vonmises_fisher(m, k).logpdf(u)
            for m, k, u in zip(unit_g, kappa, unit_t, strict=True)
        ]
        likelihood = torch.tensor(likelihood).flatten().numpy()
    else:
        likelihood = stats.norm(g, sigma_s).logpdf(mu_t).sum(1)
    assert loss.parts["denoised"].item() == pytest.approx(likelihood.mean(), rel=1e-4)
    assert loss.parts["kl"].item() == pytest.approx(kl.mean(), rel=1e-4)
    elbo = (likelihood - 0.7 * kl).mean()
    assert loss.parts["elbo"].item() == pytest.approx(elbo, rel=1e-4)
    assert loss.total.item() == pytest.approx(-elbo / P, rel=1e-4)


def test_the_cosine_kl_is_the_cosine_for_equal_scales(views):
    method = make(kl="cosine")
    q, p, _ = method.pairs(views)
    sigma = 0.5
    q, p = (method._normal(x.mean, torch.full((16, P), sigma)) for x in (q, p))
    cosine = torch.cosine_similarity(q.mean, p.mean, dim=-1)
    kl = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(kl, P * (1 - cosine) / sigma**2)


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_pyros_elbo_and_classic_svi_give_the_trainers_gradients(forms, views):
    trained = make(**forms)
    loss = seeded_loss(trained, views)
    loss.total.backward()
    expected = gradients(trained)  # per dimension, and of the mean over pairs

    by_pyro = make(**forms)
    elbo = TraceMeanField_ELBO()(by_pyro.model, by_pyro.guide)
    torch.manual_seed(2)
    total = elbo(*by_pyro.pairs(views)) / (16 * P)
    total.backward()
    torch.testing.assert_close(total, loss.total)

    by_svi = make(**forms)
    captured = {}
    svi = pyro.infer.SVI(
        by_svi.model, by_svi.guide, pyro.optim.SGD({"lr": 0.1}), loss=SymmetricELBO()
    )
    svi.optim = lambda parameters: captured.update(gradients(by_svi))
    torch.manual_seed(2)
    svi.step(*by_svi.pairs(views))

    for name, gradient in expected.items():
        torch.testing.assert_close(gradients(by_pyro)[name], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(captured[name] / P, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "knob",
    [
        {"hidden_dim": 12},
        {"output_dim": 7},
        {"min_scale": 0.5},
        {"max_scale": 2.0},
        {"likelihood": "cosine"},
        {"kl": "cosine"},
        {"beta": 0.5},
        {"num_particles": 2},
    ],
    ids=str,
)
def test_every_knob_changes_the_loss(knob, views):
    totals = [seeded_loss(make(**kw), views).total.item() for kw in ({}, knob)]
    assert totals[0] != totals[1]


def test_the_teacher_follows_with_its_momentum(views):
    for momentum in (0.9, 0.99):
        method = make(momentum=momentum)
        before, student = (
            copy.deepcopy(m.linear.weight) for m in (method.teacher.module[0], method.encoder)
        )
        method.after_step(0.5)  # half way to one
        m = (1 + momentum) / 2
        torch.testing.assert_close(
            method.teacher.module[0].linear.weight, m * before + (1 - m) * student
        )
        final = method.teacher.module[0].linear.weight.clone()
        method.after_step(1.0)
        assert torch.equal(method.teacher.module[0].linear.weight, final)


def test_every_weight_of_the_student_gets_a_gradient_and_the_teacher_none(views):
    method = make()
    method.loss(views).total.backward()
    trained = {id(p) for group in param_groups(method) for p in group["params"]}
    assert not trained & {id(p) for p in method.teacher.parameters()}
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(g.abs().sum() > 0 for g in gradients(method).values())


def test_scales_stay_within_their_bounds():
    for bias, bound in ((-100.0, 0.1), (100.0, 2.0)):
        method = make(min_scale=0.1, max_scale=2.0)
        with torch.no_grad():
            method.head.network[-1].bias[P:] = bias
        scale = method.posterior(torch.randn(4, 3, 4, 4)).stddev
        torch.testing.assert_close(scale, torch.full((4, P), bound))
        assert method.loss(torch.randn(2, 8, 3, 4, 4)).monitors["clamp_fraction"] == 1


def test_means_have_variance_one_so_that_they_cannot_shrink(views):
    method = make()
    with torch.no_grad():
        method.head.network[-1].weight[:P] *= 0.1
    mean = method.posterior(views[0]).mean
    torch.testing.assert_close(mean.var(0, correction=0), torch.ones(P), rtol=0.1, atol=0)


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_nothing_is_moved_to_the_host_in_a_step(forms, views, host_moves):
    method = make(**forms)
    method.loss(views)  # the Bessel function's coefficients are computed once
    host_moves.clear()
    with pyro.validation_enabled(False):
        method.loss(views).total.backward()
        method.after_step(0.5)
        assert host_moves == []
        float(torch.ones(()))  # the spies do see
    assert host_moves


def test_scores_are_float32_under_autocast(views):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(views)
        assert method.embed(views[0]).dtype == torch.float32
        assert method.posterior(views[0]).mean.dtype == torch.float32
        assert method.prior(views[0]).mean.dtype == torch.float32
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_posterior_uncertainty_and_log_likelihood_of_images(forms, views):
    method = make(beta=0.5, **forms).eval()
    terms = method.log_likelihood(views[0], views[1], num_samples=4)
    assert set(terms) == {"elbo", "denoised", "kl"}
    assert all(v.shape == (8,) for v in terms.values())
    torch.testing.assert_close(terms["elbo"], terms["denoised"] - terms["kl"])
    q, p = method.posterior(views[0]), method.prior(views[1])
    assert (q.batch_shape, q.event_shape) == ((8,), (P,))
    torch.testing.assert_close(terms["kl"], torch.distributions.kl_divergence(q, p))
    entropy = q.entropy() / P - 0.5 * math.log(2 * math.pi * math.e)
    torch.testing.assert_close(method.uncertainty(views[0]), entropy)
    assert entropy.std() > 0


def test_the_generative_model_runs_forward(views):
    for forms in FORMS:
        method = make(**forms).eval()
        with torch.no_grad():
            posterior, prior, target = method.pairs(views)
            trace = pyro.poutine.trace(method.model).get_trace(posterior, prior)
        assert trace.nodes["denoised"]["value"].shape == target.shape
        assert torch.equal(trace.nodes["z"]["fn"].mean, prior.mean)


def test_a_diagnosis_is_refused_with_what_is_missing():
    with pytest.raises(VJEError, match=r"VSSL cannot be diagnosed"):
        require_posterior(make())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"output_dim": 2}, "output_dim must be at least 3, got 2"),
        ({"hidden_dim": 0}, "must be positive.*got 6, 0"),
        ({"min_scale": 2.0, "max_scale": 1.0}, "0 < min_scale < max_scale, got 2.0 and 1.0"),
        ({"likelihood": "exact"}, r"likelihood must be one of \('gaussian', 'cosine'\).*'exact'"),
        ({"kl": "exact"}, r"kl must be one of \('gaussian', 'cosine'\).*'exact'"),
        ({"beta": -1.0}, "beta must be finite and not negative, got -1.0"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        make(**overrides)


# ------------------------------------------------------------------------------ training


def small(digits, **overrides):
    return VSSL(digits.encoder(), hidden_dim=64, output_dim=32, **overrides)


def test_training_lowers_the_loss_and_does_not_collapse(tmp_path, digits):
    method = small(digits)
    untrained = digits.knn(method)
    losses = digits.train(method, tmp_path / "run", epochs=4)
    assert losses[-1] < losses[0] - 0.3
    assert digits.knn(method) > untrained + 0.06


def test_a_resumed_run_is_bit_equal(tmp_path, digits):
    whole, parts, resumed = (small(digits) for _ in range(3))
    digits.train(whole, tmp_path / "whole", epochs=1)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        digits.train(parts, tmp_path / "parts", epochs=1, fail_at=5)
    digits.train(resumed, tmp_path / "parts", epochs=1, resume=True)
    state = resumed.state_dict()
    assert any(name.startswith("teacher.") for name in state)
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_it_is_trained_evaluated_reported_and_loaded_by_name(tmp_path, digits, capsys):
    sizes = ("method.hidden_dim=16", "method.output_dim=8")
    run = digits.by_command("vssl", tmp_path, *sizes)
    images = run.source.split("test").images[:5]
    assert run.posterior(images).event_shape == (8,)
    assert run.log_likelihood(images)["elbo"].shape == (5,)
    assert run.method.uncertainty(run.normalize(images)).shape == (5,)
    capsys.readouterr()
    assert run_cli("diagnose", run.path) != 0
    assert "cannot be diagnosed" in capsys.readouterr().err
