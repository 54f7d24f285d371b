import copy

import numpy as np
import pyro
import pytest
import torch
from commandline import run_cli
from pyro.infer import Trace_ELBO
from scipy import special
from small import Encoder, gradients
from torch.nn.functional import normalize

from vje_pyro.diagnostics import require_posterior
from vje_pyro.distributions import PowerSpherical, VonMisesFisher
from vje_pyro.errors import VJEError
from vje_pyro.inference import SymmetricELBO
from vje_pyro.method import Loss, Method, ProbabilisticMethod
from vje_pyro.models import VISimSiam

P = 5
LAWS = [PowerSpherical, VonMisesFisher]


def make(**overrides):
    torch.manual_seed(0)
    sizes = {"hidden_dim": 16, "output_dim": P, "predictor_dim": 8}
    return VISimSiam(**({"encoder": Encoder()} | sizes | overrides))


def reference_log_density(law, cosine, kappa):
    """Written with scipy, from the textbook formulas."""
    if law is VonMisesFisher:
        v = P / 2 - 1
        log_bessel = np.log(special.ive(v, kappa)) + kappa
        return kappa * cosine + v * np.log(kappa) - P / 2 * np.log(2 * np.pi) - log_bessel
    beta = (P - 1) / 2
    alpha = beta + kappa
    log_norm = (alpha + beta) * np.log(2) + beta * np.log(np.pi)
    log_norm += special.gammaln(alpha) - special.gammaln(alpha + beta)
    return kappa * np.log1p(cosine) - log_norm


def test_it_obeys_the_protocols(views):
    method = make()
    assert isinstance(method, Method)
    assert isinstance(method, ProbabilisticMethod)
    loss = method.loss(views)
    assert isinstance(loss, Loss)
    assert set(loss.parts) == {"elbo", "direction", "kl"}
    assert set(loss.monitors) == {
        "concentration", "cosine", "std", "clamp_fraction",
    }  # fmt: skip
    assert not any(v.requires_grad for v in [*loss.parts.values(), *loss.monitors.values()])


@pytest.mark.parametrize("num_views", [2, 3])
def test_the_encoder_runs_once_per_view(num_views):
    method = make()
    method.loss(torch.randn(num_views, 8, 3, 4, 4)).total.backward()
    assert method.encoder.calls == num_views


@pytest.mark.parametrize("law", LAWS)
def test_loss_is_the_formula_written_by_hand(law, views):
    loss = make(law=law, beta=0.3).loss(views)

    method = make(law=law, beta=0.3)  # batch norm statistics as before
    with torch.no_grad():
        s = [method.projector(method.encoder(v)) for v in views]
        source, target = torch.cat(s), torch.cat(s[::-1])
        loc = normalize(method.predictor(source), dim=-1)
        bound = np.log(1e3)
        raw = torch.nn.Sequential(*method.concentration)(source)[:, 0]
        log_ratio = bound * (raw / bound).tanh()
        kappa = P * log_ratio.exp().double().numpy()
        cosine = (loc * normalize(target, dim=-1)).sum(-1).double().numpy()
    direction = reference_log_density(law, cosine, kappa)
    # The divergence from the uniform law by quadrature over the cosine.
    c = np.linspace(-1, 1, 20_001)[1:-1]
    log_p = reference_log_density(law, c, kappa[:, None])
    log_circle = np.log(2) + (P - 1) / 2 * np.log(np.pi) - special.gammaln((P - 1) / 2)
    weight = np.exp(log_circle + (P - 3) / 2 * np.log1p(-(c**2)))
    log_area = np.log(2) + P / 2 * np.log(np.pi) - special.gammaln(P / 2)
    kl = np.trapezoid(np.exp(log_p) * weight * (log_p + log_area), c, axis=-1)

    assert loss.parts["direction"].item() == pytest.approx(direction.mean(), rel=1e-4)
    assert loss.parts["kl"].item() == pytest.approx(kl.mean(), rel=1e-4)
    assert loss.parts["elbo"].item() == pytest.approx((direction - 0.3 * kl).mean(), rel=1e-4)
    assert loss.total.item() == pytest.approx(-(direction - 0.3 * kl).mean() / P, rel=1e-4)
    assert loss.monitors["cosine"].item() == pytest.approx(cosine.mean(), rel=1e-4)
    assert loss.monitors["concentration"].item() == pytest.approx(kappa.mean(), rel=1e-4)


@pytest.mark.parametrize("law", LAWS)
def test_pyros_elbo_and_classic_svi_give_the_trainers_gradients(law, views):
    trained = make(law=law, beta=0.3)
    trained.loss(views).total.backward()
    expected = gradients(trained)  # per dimension, and of the mean over pairs

    by_pyro = make(law=law, beta=0.3)
    (Trace_ELBO()(by_pyro.model, by_pyro.guide)(*by_pyro.pairs(views)) / (16 * P)).backward()

    by_svi = make(law=law, beta=0.3)
    captured = {}
    svi = pyro.infer.SVI(
        by_svi.model, by_svi.guide, pyro.optim.SGD({"lr": 0.1}), loss=SymmetricELBO()
    )
    svi.optim = lambda parameters: captured.update(gradients(by_svi))
    svi.step(*by_svi.pairs(views))

    for name, gradient in expected.items():
        torch.testing.assert_close(gradients(by_pyro)[name], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(captured[name] / P, gradient, rtol=1e-4, atol=1e-6)


def test_classic_svi_moves_the_encoders_weights(views):
    method = make()
    before = method.encoder.linear.weight.detach().clone()
    svi = pyro.infer.SVI(
        method.model, method.guide, pyro.optim.Adam({"lr": 0.01}), loss=SymmetricELBO()
    )
    losses = [svi.step(*method.pairs(views)) for _ in range(30)]
    assert (method.encoder.linear.weight - before).abs().max() > 0.01
    assert losses[-1] < losses[0]


def test_a_constant_concentration_gives_simsiams_gradient(views):
    method = make(law=VonMisesFisher)
    with torch.no_grad():  # κ = P everywhere
        for p in method.concentration[-1].parameters():
            p.zero_()
    reference = copy.deepcopy(method)
    method.loss(views).total.backward()

    s = [reference.projector(reference.encoder(v)) for v in views]
    prediction = reference.predictor(torch.cat(s))
    cosine = torch.cosine_similarity(prediction, torch.cat(s[::-1]).detach(), dim=-1)
    (-cosine).mean().backward()
    for part in ("encoder", "projector", "predictor"):
        for name, p in getattr(reference, part).named_parameters():
            found = getattr(method, part).get_parameter(name).grad
            torch.testing.assert_close(found, p.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "knob",
    [
        {"law": VonMisesFisher},
        {"hidden_dim": 12},
        {"output_dim": 7},
        {"predictor_dim": 12},
        {"beta": 0.5},
        {"max_ratio": 1.1},
    ],
    ids=str,
)
def test_every_knob_changes_the_loss(knob, views):
    totals = [make(**overrides).loss(views).total.item() for overrides in ({}, knob)]
    assert totals[0] != totals[1]


def test_every_parameter_gets_a_gradient_and_the_target_none(views):
    method = make()
    target = method.pairs(views)[1]
    assert not target.requires_grad
    method.loss(views).total.backward()
    assert all(g.abs().sum() > 0 for g in gradients(method).values())


def test_kappa_falls_with_noise_in_the_target():
    """A law fitted to directions that scatter more has a smaller concentration."""
    torch.manual_seed(0)
    loc, noise = normalize(torch.randn(500, P), dim=-1), torch.randn(500, P)
    method, grid, best = make(), torch.logspace(-1, 4, 50), []
    for scale in (0.1, 1.0):
        laws = [PowerSpherical(loc, concentration=kappa) for kappa in grid]
        scores = [method._terms(law, loc + scale * noise)["elbo"].mean() for law in laws]
        best.append(grid[torch.stack(scores).argmax()])
    assert best[0] > 20 * best[1]


def test_kappa_stays_within_its_bounds():
    method = make(max_ratio=10.0)
    with torch.no_grad():
        method.concentration[-1].bias.fill_(100.0)
    kappa = method.eval().posterior(torch.randn(4, 3, 4, 4)).concentration
    torch.testing.assert_close(kappa, torch.full((4,), 10.0 * P))
    loss = method.loss(torch.randn(2, 4, 3, 4, 4))
    assert loss.monitors["clamp_fraction"] == 1


@pytest.mark.parametrize("law", LAWS)
def test_nothing_is_moved_to_the_host_in_a_step(law, views, host_moves):
    method = make(law=law)
    method.loss(views)  # the Bessel function's coefficients are computed once
    host_moves.clear()
    with pyro.validation_enabled(False):
        method.loss(views).total.backward()
        assert host_moves == []
        float(torch.ones(()))  # the spies do see
    assert host_moves


def test_scores_are_float32_under_autocast(views):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(views)
        assert method.embed(views[0]).dtype == torch.float32
        assert method.encode(views[0]).dtype == torch.float32
        assert method.posterior(views[0]).loc.dtype == torch.float32
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.total)


def test_posterior_uncertainty_and_log_likelihood_of_images(views):
    method = make(beta=0.5).eval()
    terms = method.log_likelihood(views[0], views[1])
    assert set(terms) == {"elbo", "direction", "kl"}
    assert all(v.shape == (8,) for v in terms.values())
    torch.testing.assert_close(terms["elbo"], terms["direction"] - 0.5 * terms["kl"])
    law = method.posterior(views[0])
    assert (law.batch_shape, law.event_shape) == ((8,), (P,))
    direction = normalize(method.encode(views[1]), dim=-1)
    torch.testing.assert_close(terms["direction"], law.log_prob(direction))
    torch.testing.assert_close(method.uncertainty(views[0]), -law.concentration.log())
    assert method.uncertainty(views[0]).std() > 0


def test_the_generative_model_runs_forward():
    method = make().eval()
    posterior = method.posterior(torch.randn(5, 3, 4, 4))
    trace = pyro.poutine.trace(method.model).get_trace(posterior)
    torch.testing.assert_close(trace.nodes["direction"]["value"].norm(dim=-1), torch.ones(5))


def test_a_diagnosis_is_refused_with_what_is_missing():
    with pytest.raises(VJEError, match=r"VISimSiam cannot be diagnosed"):
        require_posterior(make())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"output_dim": 2}, "output_dim must be at least 3.*got 2"),
        ({"hidden_dim": 0}, "hidden_dim positive.*got 5 and 0"),
        ({"predictor_dim": 0}, "must be positive.*got 5, 0"),
        ({"beta": -1.0}, "beta must be finite and not negative, got -1.0"),
        ({"max_ratio": 1.0}, "max_ratio must be finite and above 1, got 1.0"),
    ],
)
def test_bad_arguments_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        make(**overrides)


# ------------------------------------------------------------------------------ training


def small(digits):
    return make(encoder=digits.encoder(), hidden_dim=64, output_dim=32, predictor_dim=32)


def test_training_lowers_the_loss_and_does_not_collapse(tmp_path, digits):
    method = small(digits)
    untrained = digits.knn(method)  # 0.72
    losses = digits.train(method, tmp_path / "run", epochs=4)
    assert losses[-1] < losses[0] - 0.1
    assert digits.knn(method) > untrained + 0.06  # 0.84 was found


def test_a_resumed_run_is_bit_equal(tmp_path, digits):
    whole, parts, resumed = (small(digits) for _ in range(3))
    digits.train(whole, tmp_path / "whole", epochs=1)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        digits.train(parts, tmp_path / "parts", epochs=1, fail_at=5)
    digits.train(resumed, tmp_path / "parts", epochs=1, resume=True)
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_it_is_trained_evaluated_reported_and_loaded_by_name(tmp_path, digits, capsys):
    sizes = ("method.hidden_dim=16", "method.output_dim=8", "method.predictor_dim=8")
    run = digits.by_command("vi_simsiam", tmp_path, *sizes)
    images = run.source.split("test").images[:5]
    assert run.posterior(images).event_shape == (8,)
    assert run.log_likelihood(images)["elbo"].shape == (5,)
    assert run.method.uncertainty(run.normalize(images)).shape == (5,)
    capsys.readouterr()
    assert run_cli("diagnose", run.path) != 0
    assert "cannot be diagnosed" in capsys.readouterr().err
