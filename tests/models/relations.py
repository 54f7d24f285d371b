"""Relations between the losses, shapes or densities of two values of a knob, asserted."""

import inspect
import math
from functools import partial

import pytest
import torch
from pyro.distributions import Independent, Normal
from scipy import stats
from small import SETTINGS, STUDENT_T, B, D, P, make, random_views, seeded
from torch import nn

from vje_pyro import distributions, guides, inference, priors

views = random_views()
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def loss(name, **knobs):
    return seeded(make(name, **knobs).loss, views)


def total(name, **knobs):
    return loss(name, **knobs).total.detach()


# ------------------------------------------------------------- relations of the loss of a method


def proportional(name, knob, a, b):
    close(total(name, **{knob: b}), b / a * total(name, **{knob: a}))


def linear(name, knob, a, b):
    """Of the knob, and it rises: what the knob weighs is positive."""
    none, some, more = (total(name, **{knob: value}) for value in (0.0, a, b))
    assert some > none
    close((more - none) / (some - none), torch.tensor(b / a), rtol=2e-3)


def weighs(part):
    """The knob is the weight of a part of the loss, and of no other."""

    def relation(name, knob, a, b):
        one, two = (loss(name, **{knob: value}) for value in (a, b))
        close(two.parts[part] / one.parts[part], torch.tensor(b / a))
        close(two.total - one.total, two.parts[part] - one.parts[part])
        assert one.parts[part] > 0

    return relation


def weighs_kl(name, knob, a, b):
    one, two = (loss(name, **{knob: value}) for value in (a, b))
    close(two.total - one.total, (b - a) * one.parts["kl"] / (D if name == "VJE" else P))
    assert one.parts["kl"] > 0


def traded(name, knob, a, b):
    """Of LeJEPA: λ times SIGReg and 1 − λ times the invariance."""
    one, two = (loss(name, **{knob: value}).parts for value in (a, b))
    close(two["sigreg"] / one["sigreg"], torch.tensor(b / a))
    close(two["invariance"] / one["invariance"], torch.tensor((1 - b) / (1 - a)))


def raises(name, knob, a, b):
    assert total(name, **{knob: a}) < total(name, **{knob: b})


def guesses(name, knob, a, b):
    """At a high temperature every one of 2B − 1 others is as likely."""
    close(total(name, **{knob: b}), torch.tensor(math.log(2 * B - 1)), rtol=1e-3)
    assert abs(total(name, **{knob: a}) - math.log(2 * B - 1)) > 0.05


def lowers_on_average(name, knob, a, b):
    """Jensen: the log of a mean of more draws is larger in expectation."""
    means = []
    for value in (a, b):
        method = make(name, **{knob: value})
        means.append(torch.stack([seeded(method.loss, views, seed=s).total for s in range(40)]))
    assert means[1].mean() < means[0].mean() - 2 * means[0].std() / 40**0.5


def quiets(name, knob, a, b):
    """The loss is a mean over draws: the same expectation, and noise as one over the root."""
    draws = []
    for value in (a, b):
        method = make(name, **{knob: value})
        with torch.no_grad():
            draws.append(torch.stack([seeded(method.loss, views, seed=s).total for s in range(40)]))
    few, many = draws
    assert abs(few.mean() - many.mean()) < 4 * few.std() / 40**0.5
    assert many.std() / few.std() == pytest.approx((a / b) ** 0.5, rel=0.4)


def bounds_kappa(name, knob, a, b):
    """κ/P is between 1/b and b: at b near one every κ is P, and at a it strays further."""
    free, bound = (
        make(name, **{knob: value}).eval().posterior(views[0]).concentration / P - 1
        for value in (a, b)
    )
    assert bound.abs().max() < b - 1 < free.abs().max()


def bounds_scale(name, knob, a, b):
    """No scale leaves the bound at b, which the scales at a do."""
    means = [make(name, **{knob: value}).eval().posterior(views[0]).stddev for value in (a, b)]
    sign = 1 if knob == "min_scale" else -1
    assert (sign * (means[1] - b) >= 0).all()
    assert (sign * (means[0] - b) < 0).any()


def unbiased(name, knob, a, b):
    """A sampled KL has the expectation of the closed one."""
    closed, drawn = (make(name, **{knob: value}) for value in (a, b))
    with torch.no_grad():
        kl = torch.stack([seeded(drawn.loss, views, seed=s).parts["kl"] for s in range(60)])
        expected = closed.loss(views).parts["kl"]
    assert abs(kl.mean() - expected) < 4 * kl.std() / 60**0.5
    assert kl.std() > 0


def other_gradient(name, knob, a, b):
    """The same value; but gradient flows into the target, too."""
    found = []
    for value in (a, b):
        method = make(name, **{knob: value})
        loss = seeded(method.loss, views).total
        loss.backward()
        found.append((loss.detach(), method.encoder.linear.weight.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


def whitens(name, knob, a, b):
    """Embeddings have mean zero and variance one over the batch, or are the encoder's own."""
    with torch.no_grad():
        normed, raw = (make(name, **{knob: value}) for value in (a, b))
        s = normed.encode(views[0])
        close(s.mean(0), torch.zeros(D))
        close(s.var(0, correction=0), torch.ones(D), atol=1e-3)
        assert torch.equal(raw.encode(views[0]), raw.encoder(views[0]))


def leaves_out(part):
    """Without the component the loss is less by its part."""

    def relation(name, knob, a, b):
        without, with_it = loss(name, **{knob: a}), loss(name, **{knob: b})
        unit = 1 if part == "aggregate" else -1 / D  # the bound is per dimension
        close(with_it.total - without.total, unit * with_it.parts[part])
        assert part not in without.parts
        assert with_it.parts[part] != 0

    return relation


def divides_the_scale(name, knob, a, b):
    """σ/b in the law of the direction is b/a times σ/b in one that multiplies its scale by it."""
    wider = lambda loc, scale, **kw: STUDENT_T(loc=loc, scale=scale * b / a, **kw)  # noqa: E731
    close(total(name, **{knob: b, "direction": wider}), total(name, **{knob: a}))
    assert total(name, **{knob: b}) != total(name, **{knob: a})


# ------------------------------------------------------------------------ relations of the shapes


def shapes(module):
    return [tuple(p.shape) for p in module.parameters()]


def built(kind, **knobs):
    if kind in SETTINGS:
        return make(kind, **knobs)
    if hasattr(guides, kind):
        return getattr(guides, kind)(D, **knobs)
    return getattr(priors, kind)(D, **knobs)


def width(kind, knob, a, b):
    """Every dimension that was a (or 2a, of a location and a scale) is b, all others stay."""
    becomes = {a: b, 2 * a: 2 * b}
    expected = [tuple(becomes.get(d, d) for d in s) for s in shapes(built(kind, **{knob: a}))]
    assert shapes(built(kind, **{knob: b})) == expected
    assert expected != shapes(built(kind, **{knob: a}))


def _trained(made):
    """Without a teacher's copy."""
    return getattr(made, "projector", made)


def depth(layer):
    def relation(kind, knob, a, b):
        few, many = (
            sum(isinstance(m, layer) for m in _trained(built(kind, **{knob: value})).modules())
            for value in (a, b)
        )
        assert many - few == b - a

    return relation


def no_batch_norm(kind, knob, a, b):
    counts = [
        sum(isinstance(m, nn.BatchNorm1d) for m in make(kind, **{knob: v}).projector.modules())
        for v in (a, b)
    ]
    assert counts == [2, 0]


def rank(kind, knob, a, b):
    for value in (a, b):
        q = built(kind, **{knob: value}).infer(torch.randn(4, D)).posterior
        assert q.cov_factor.shape == (4, D, value)


def couplings(kind, knob, a, b):
    for value in (a, b):
        assert len(built(kind, **{knob: value}).couplings) == value


def bounds_guide(kind, knob, a, b):
    """No scale of the diagonal leaves the bound at b, which the scales at a do."""
    sign, source, scales = (1 if knob == "min_scale" else -1), 3 * torch.randn(64, D), []
    for value in (a, b):
        q, scale = seeded(partial(built, kind, **{knob: value})).eval().infer(source)
        scales.append(q.cov_diag.sqrt() if kind == "LowRankNormal" else scale)
    assert (sign * (scales[1] - b) >= 0).all()
    assert (sign * (scales[0] - b) < 0).any()


def shares_scale(kind, knob, a, b):
    for value in (a, b):
        q, scale = built(kind, **{knob: value}).infer(torch.randn(4, D))
        assert torch.equal(q.stddev, scale) == value


# --------------------------------------------------------- relations of densities and aggregates


def law(kind, **knobs):
    settings = {"scale": 0.5}
    signature = inspect.signature(getattr(distributions, kind))
    if "df" in signature.parameters:
        settings["df"] = 2.0
    loc = torch.eye(D)[0] if not kind.startswith("Radial") else torch.tensor(3.0)
    return getattr(distributions, kind)(**{"loc": loc, **settings, **knobs})


def at(kind, where):
    """The centre of the law, or a point far from it."""
    if kind.startswith("Radial"):
        return torch.tensor(3.0 if where == "centre" else 60.0)
    far = -torch.eye(D)[0] if kind == "SphericalStudentT" else torch.eye(D)[1]
    return torch.eye(D)[0] if where == "centre" else far


def log_prob(kind, where, **knobs):
    return law(kind, **knobs).log_prob(at(kind, where))


def lowers_the_centre(kind, knob, a, b):
    """A wider law has less mass at its centre and more far away."""
    assert log_prob(kind, "centre", **{knob: a}) > log_prob(kind, "centre", **{knob: b})
    assert log_prob(kind, "far", **{knob: a}) < log_prob(kind, "far", **{knob: b})


def lightens_the_tail(kind, knob, a, b):
    assert log_prob(kind, "far", **{knob: a}) > log_prob(kind, "far", **{knob: b})


def normalises(kind, knob, a, b):
    """A density of the half line lacks the mass below zero: every point gains as much."""
    by = [
        log_prob(kind, w, **{knob: b}) - log_prob(kind, w, **{knob: a}) for w in ("centre", "far")
    ]
    mass = torch.tensor(stats.t(2.0, 3.0, 0.5).sf(0), dtype=by[0].dtype)
    close(torch.stack(by), -mass.log().expand(2))


def refers(kind, knob, a, b):
    """p_ref(u) = p(u) ((1 + c)/2)^(−(D − 3)/2) / P, with the mass P below one."""
    at_c = (torch.eye(D)[0], torch.eye(D)[1])  # c = 1 and c = 0
    plain, reference = (law(kind, **{knob: value}) for value in (a, b))
    gain = [reference.log_prob(u) - plain.log_prob(u) for u in at_c]
    assert gain[0] > 0
    close(gain[1] - gain[0], torch.tensor((D - 3) / 2 * math.log(2)))


def narrows(kind, knob, a, b):
    """κ is that of the exact relation to the scale: 1/σ² or its like, so the centre rises."""
    one, two = (law(kind, scale=None, **{knob: v}).log_prob(at(kind, "centre")) for v in (a, b))
    assert one < two


def scales_z(kind, knob, a, b):
    infer = lambda s: Independent(Normal(2 * s, 0.5), 1)  # noqa: E731
    z = torch.randn(10, D)
    one, two = (built(kind, **{knob: value})(infer) for value in (a, b))
    close(two.log_prob(b / a * z), one.log_prob(z) - D * math.log(b / a))


def spreads(kind, knob, a, b):
    name = "loc" if kind == "MixturePrior" else "pseudo_embeddings"
    one, two = (getattr(seeded(partial(built, kind, **{knob: v})), name) for v in (a, b))
    close(two, b / a * one)


def lightens_the_prior(kind, knob, a, b):
    far = torch.full((D,), 6.0)
    one, two = (built(kind, **{knob: value})(None).log_prob(far) for value in (a, b))
    assert one > two


def aggregate(kind, seed=3, x=None, **knobs):
    x = torch.rand(32, 4, generator=torch.Generator().manual_seed(0)) if x is None else x
    return seeded(getattr(inference, kind)(**{"weight": 1.0, **knobs}), x, seed=seed)


def factor(kind, knob, a, b):
    close(aggregate(kind, **{knob: b}), b / a * aggregate(kind, **{knob: a}))


def averages(kind, knob, a, b):
    """A mean over directions: the same expectation, and noise as one over the root."""
    few, many = (
        torch.stack([aggregate(kind, seed=s, **{knob: value}) for s in range(80)])
        for value in (a, b)
    )
    assert abs(few.mean() - many.mean()) < 4 * few.std() / 80**0.5
    assert many.std() / few.std() == pytest.approx((a / b) ** 0.5, rel=0.3)


def integrates(kind, knob, a, b):
    """More nodes come nearer to the integral."""
    few, many, all_of_them = (aggregate(kind, **{knob: value}) for value in (a, b, 401))
    assert abs(many - all_of_them) < abs(few - all_of_them) / 10
