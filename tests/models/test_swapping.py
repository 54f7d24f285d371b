"""Every likelihood, radial factor, prior and guide that has a file works with every other."""

from functools import cache
from itertools import product

import pyro
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.models import VJE

D = 6
SMALL = {"guide/affine_coupling_flow": {"num_flows": 2, "flow_features": 8}}


def choices(group):
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


@cache
def component(group, choice):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [f"{group}={choice}"])
    node = OmegaConf.select(config, group.replace("/", "."))
    if node is None:
        return None
    small = {"hidden_features": 8} if group == "guide" else {}
    return build(OmegaConf.merge(node, small | SMALL.get(f"{group}/{choice}", {})))


class Encoder(nn.Sequential):
    num_features = D

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(12, D))


def make(direction="spherical_student_t", radius="student_t", prior=None, guide=None, **settings):
    torch.manual_seed(0)
    return VJE(
        Encoder(),
        component("guide", guide or "diagonal_normal"),
        component("likelihood/direction", direction),
        component("likelihood/radius", radius),
        prior=component("prior", prior or "standard_normal"),
        **settings,
    )


def views(seed=1):
    return torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prior", choices("prior"))
@pytest.mark.parametrize("direction", choices("likelihood/direction"))
def test_every_combination_trains(direction, prior):
    # The conjugate guide is only for the standard normal prior.
    fitting = [g for g in choices("guide") if g != "conjugate_normal" or prior == "standard_normal"]
    for guide, radius in product(fitting, choices("likelihood/radius")):
        method = make(direction, radius, prior, guide)
        optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
        before = {name: p.detach().clone() for name, p in method.named_parameters()}
        for step in range(2):
            optimizer.zero_grad()
            with pyro.validation_enabled(step == 0):
                total = method.loss(views(step)).total
            total.backward()
            optimizer.step()
        still = [n for n, p in method.named_parameters() if torch.equal(p, before[n])]
        assert torch.isfinite(total), (guide, radius)
        assert not still, (guide, radius)
        # An evaluation's terms have the same names, and the data are scored one by one.
        terms = method.eval().log_likelihood(*views(), num_samples=2)
        assert set(terms) == {"elbo", "direction", "kl"} | (
            {"radius"} if radius != "none" else set()
        )
        assert all(v.shape == (16,) and torch.isfinite(v).all() for v in terms.values())


@pytest.mark.parametrize(
    ("group", "argument"),
    [
        ("likelihood/direction", "direction"),
        ("likelihood/radius", "radius"),
        ("prior", "prior"),
        ("guide", "guide"),
    ],
)
def test_every_choice_changes_the_loss(group, argument):
    totals = {}
    for choice in choices(group):
        method = make(**{argument: choice})
        torch.manual_seed(3)
        for _ in range(2):  # a fresh flow is its Gaussian: it differs after a step
            optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
            loss = method.loss(views()).total
            loss.backward()
            optimizer.step()
        totals[choice] = loss.item()
    assert len({round(v, 6) for v in totals.values()}) == len(totals), totals


def test_the_kl_is_analytic_where_it_can_be_and_the_log_says_where_not(caplog):
    caplog.set_level("INFO")
    assert make().elbo.kl == "analytic"
    assert make(guide="low_rank_normal").elbo.kl == "analytic"
    assert not caplog.messages
    assert make(guide="affine_coupling_flow").elbo.kl == "sample"
    assert make(prior="vamp").elbo.kl == "sample"
    assert "no closed form for AffineCouplingFlow and NormalPrior" in caplog.messages[0]
    assert "no closed form for DiagonalNormal and VampPrior" in caplog.messages[1]
    with pytest.raises(NotImplementedError, match="No analytic KL"):
        make(prior="vamp", kl="analytic").loss(views())
    with pytest.raises(ValueError, match="kl must be"):
        make(kl="exact")


@pytest.mark.parametrize("prior", [p for p in choices("prior") if p != "standard_normal"])
def test_a_conjugate_guide_refuses_priors_that_it_is_not_conjugate_to(prior):
    with pytest.raises(ValueError, match=r"conjugate to the standard normal prior.*prior=standard"):
        make(prior=prior, guide="conjugate_normal")


def test_the_model_generates_what_it_scores():
    method = make().eval()
    with torch.no_grad():
        posterior, scale, target = method.pairs(views())
        trace = pyro.poutine.trace(method.model).get_trace(posterior, scale)
    direction, radius = trace.nodes["direction"]["value"], trace.nodes["radius"]["value"]
    assert direction.shape == target.shape
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(32))
    assert (radius > 0).all()


def test_pseudo_embeddings_leave_the_guides_statistics_alone():
    method = make(prior="vamp")
    before = {k: v.clone() for k, v in method.inference.state_dict().items()}
    method.prior_distribution().log_prob(torch.zeros(D))
    assert method.inference.training
    for name, value in method.inference.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_the_reference_radius_is_the_unit_of_the_directional_scale():
    default, one = make(), make(reference_radius=1.0)
    assert default.reference_radius == D**0.5
    for method in (default, one):
        torch.manual_seed(4)
        method.total = method.loss(views()).total.item()
    assert default.total != one.total
    with pytest.raises(ValueError, match=r"reference_radius must be positive and finite.*got -1"):
        make(reference_radius=-1.0)


def test_only_a_free_scale_can_leave_the_posteriors():
    s = torch.randn(5, D)
    for name, shared in [("diagonal_normal", True), ("diagonal_normal_free_scale", False)]:
        posterior, scale = make(guide=name).eval().infer(s)
        assert torch.equal(posterior.stddev, scale) == shared
