"""VSSL's own: its formula, its cosine forms, its bounds."""

import math

import pytest
import torch
from scipy import special, stats
from small import P, make, random_views, seeded
from torch.nn.functional import normalize

views = random_views()


@pytest.mark.parametrize(
    "name", ["VSSL", "VSSL-cosine-kl", "VSSL-cosine-likelihood", "VSSL-cosine"]
)
def test_loss_is_the_formula_written_by_hand(name):
    loss = seeded(make(name, beta=0.7).loss, views)

    method = make(name, beta=0.7)  # batch norm statistics as before
    with torch.no_grad():
        student = [method.head(method.encoder(v)) for v in views]
        teacher = [method.teacher(v) for v in views]
    mu_s, sigma_s = (torch.cat(x) for x in zip(*student, strict=True))
    mu_t, sigma_t = (torch.cat(x) for x in zip(*teacher[::-1], strict=True))
    if method.kl == "cosine":
        mu_s, mu_t = (math.sqrt(P) * m / m.norm(dim=1, keepdim=True) for m in (mu_s, mu_t))
    torch.manual_seed(2)
    z = mu_s + sigma_s * torch.randn(16, P)
    with torch.no_grad():
        g = method.denoiser(z)
    tensors = (mu_s, sigma_s, mu_t, sigma_t, g)
    mu_s, sigma_s, mu_t, sigma_t, g = (x.double().numpy() for x in tensors)

    ratio = sigma_s / sigma_t
    distance = (mu_s - mu_t) ** 2 / sigma_t**2
    kl = 0.5 * (ratio**2 + distance - 1 - 2 * special.log1p(ratio - 1)).sum(1)
    if method.likelihood == "cosine":
        kappa = P / (sigma_s**2).mean(1)
        unit_g, unit_t = (normalize(torch.tensor(x), dim=1).numpy() for x in (g, mu_t))
        laws = [stats.vonmises_fisher(m, k) for m, k in zip(unit_g, kappa, strict=True)]
        likelihood = [law.logpdf(u).item() for law, u in zip(laws, unit_t, strict=True)]
        likelihood = torch.tensor(likelihood).numpy()
    else:
        likelihood = stats.norm(g, sigma_s).logpdf(mu_t).sum(1)
    elbo = (likelihood - 0.7 * kl).mean()
    expected = {"denoised": likelihood.mean(), "kl": kl.mean(), "elbo": elbo}
    assert {k: v.item() for k, v in loss.parts.items()} == pytest.approx(expected, rel=1e-4)
    assert loss.total.item() == pytest.approx(-elbo / P, rel=1e-4)


def test_the_cosine_kl_is_the_cosine_for_equal_scales():
    method = make("VSSL-cosine-kl")
    q, p, _ = method.pairs(views)
    sigma = 0.5
    q, p = (method._normal(x.mean, torch.full((16, P), sigma)) for x in (q, p))
    cosine = torch.cosine_similarity(q.mean, p.mean, dim=-1)
    kl = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(kl, P * (1 - cosine) / sigma**2)


@pytest.mark.parametrize(("bias", "bound"), [(-100.0, 0.1), (100.0, 2.0)])
def test_scales_stay_within_their_bounds(bias, bound):
    method = make("VSSL", min_scale=0.1, max_scale=2.0)
    with torch.no_grad():
        method.head.network[-1].bias[P:] = bias
    scale = method.posterior(views[0]).stddev
    torch.testing.assert_close(scale, torch.full((8, P), bound))
    assert method.loss(views).monitors["clamp_fraction"] == 1


def test_means_have_variance_one_so_that_they_cannot_shrink():
    method = make("VSSL")
    with torch.no_grad():
        method.head.network[-1].weight[:P] *= 0.1
    mean = method.posterior(views[0]).mean
    torch.testing.assert_close(mean.var(0, correction=0), torch.ones(P), rtol=0.1, atol=0)
