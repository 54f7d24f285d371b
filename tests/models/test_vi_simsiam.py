"""VI-SimSiam's own: its formula, the way to SimSiam, what its concentration says."""

import copy

import numpy as np
import pytest
import torch
from scipy import special
from small import P, make, random_views
from torch.nn.functional import normalize

from vje_pyro.distributions import PowerSpherical, VonMisesFisher

views = random_views()


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


@pytest.mark.parametrize("law", [PowerSpherical, VonMisesFisher])
def test_loss_is_the_formula_written_by_hand(law):
    loss = make("VISimSiam", law=law, beta=0.3).loss(views)

    method = make("VISimSiam", law=law, beta=0.3)  # batch norm statistics as before
    with torch.no_grad():
        s = [method.projector(method.encoder(v)) for v in views]
        source, target = torch.cat(s), torch.cat(s[::-1])
        loc = normalize(method.predictor(source), dim=-1)
        bound = np.log(1e3)
        raw = torch.nn.Sequential(*method.concentration)(source)[:, 0]
        kappa = P * (bound * (raw / bound).tanh()).exp().double().numpy()
        cosine = (loc * normalize(target, dim=-1)).sum(-1).double().numpy()
    direction = reference_log_density(law, cosine, kappa)
    # The divergence from the uniform law by quadrature over the cosine.
    c = np.linspace(-1, 1, 20_001)[1:-1]
    log_p = reference_log_density(law, c, kappa[:, None])
    log_circle = np.log(2) + (P - 1) / 2 * np.log(np.pi) - special.gammaln((P - 1) / 2)
    weight = np.exp(log_circle + (P - 3) / 2 * np.log1p(-(c**2)))
    log_area = np.log(2) + P / 2 * np.log(np.pi) - special.gammaln(P / 2)
    kl = np.trapezoid(np.exp(log_p) * weight * (log_p + log_area), c, axis=-1)

    elbo = (direction - 0.3 * kl).mean()
    found = {k: v.item() for k, v in (loss.parts | loss.monitors).items()}
    expected = {"direction": direction.mean(), "kl": kl.mean(), "elbo": elbo,
                "cosine": cosine.mean(), "concentration": kappa.mean()}  # fmt: skip
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-4)
    assert loss.total.item() == pytest.approx(-elbo / P, rel=1e-4)


def test_a_constant_concentration_gives_simsiams_gradient():
    method = make("VISimSiam", law=VonMisesFisher)
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


def test_kappa_falls_with_noise_in_the_target():
    torch.manual_seed(0)
    loc, noise = normalize(torch.randn(500, P), dim=-1), torch.randn(500, P)
    method, grid, best = make("VISimSiam"), torch.logspace(-1, 4, 50), []
    assert not method.pairs(views)[1].requires_grad  # the target
    for scale in (0.1, 1.0):
        laws = [PowerSpherical(loc, concentration=kappa) for kappa in grid]
        scores = [method._terms(law, loc + scale * noise)["elbo"].mean() for law in laws]
        best.append(grid[torch.stack(scores).argmax()])
    assert best[0] > 20 * best[1]
