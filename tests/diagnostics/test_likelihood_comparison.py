import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from vje_pyro.diagnostics.likelihood_comparison import (
    Likelihood,
    compare_likelihoods,
    compare_scores,
    heldout_scores,
    refit,
)
from vje_pyro.distributions import (
    PowerSpherical,
    ProjectedNormal,
    ProjectedStudentT,
    RadialLogNormal,
    RadialStudentT,
    SphericalNormal,
    SphericalStudentT,
    VonMisesFisher,
)
from vje_pyro.guides import DiagonalNormal

D = 8
GUIDE = partial(DiagonalNormal, hidden_features=32)


RADIUS = partial(RadialLogNormal, scale=0.5)
POWER = Likelihood(PowerSpherical, RADIUS)


def student(df):
    return Likelihood(partial(SphericalStudentT, df=df, normalized=True), RADIUS)


LAWS = {
    "power": PowerSpherical,
    "fisher": VonMisesFisher,
    "projected normal": ProjectedNormal,
    "projected heavy": partial(ProjectedStudentT, df=1.0),
    "heavy": partial(SphericalStudentT, df=1.0, normalized=True),
    "normal": partial(SphericalNormal, normalized=True),
}


def simulated(pairs, law, num_images, split, seed, scale=0.1):
    """Pairs whose second view is a draw around the first, of a scale that the radius tells."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = normalize(torch.randn(num_images, D), dim=-1)
        second = law(first, scale).sample()
        radius = 3 + 0.1 * torch.randn(2, num_images, 1)
    ids = torch.arange(num_images)
    embeddings = radius * torch.stack([first, second])
    return replace(pairs, embeddings=embeddings, labels=ids * 0 - 1, indices=ids, split=split)


@pytest.fixture(scope="module")
def scored(pairs):
    """Two models of the same data, scored."""
    likelihoods = {"power": POWER, "fisher": Likelihood(VonMisesFisher, RADIUS)}
    return {
        name: heldout_scores(replace(pairs, method=_method(pairs, likelihood)), 20)
        for name, likelihood in likelihoods.items()
    }


def _method(pairs, likelihood):
    return refit(pairs, likelihood, GUIDE, num_steps=2)


def compared(pairs, truth, names, num_steps):
    """Models of the laws of these names, on data that the law ``truth`` made."""
    train = simulated(pairs, LAWS[truth], 400, "train", seed=1, scale=0.2)
    heldout = simulated(pairs, LAWS[truth], 300, "test", seed=2, scale=0.2)
    return compare_likelihoods(
        train,
        heldout,
        {name: Likelihood(LAWS[name], RADIUS) for name in names},
        GUIDE,
        num_samples=20,
        num_steps=num_steps,
        batch_size=128,
        learning_rate=1e-2,
    )


@pytest.mark.parametrize(
    ("truth", "wrong"), [("power", "projected heavy"), ("projected heavy", "power")]
)
def test_of_heavy_and_light_tails_the_true_ones_win_conclusively(pairs, truth, wrong):
    comparison = compared(pairs, truth, (truth, wrong), num_steps=400)
    assert list(comparison.table) == [truth, wrong]
    assert comparison.is_conclusive(truth)
    assert comparison.difference(wrong, "direction")["high"] < 0
    assert comparison.table[truth]["weight"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("truth", LAWS)
def test_no_law_wins_conclusively_over_the_one_that_made_the_data(pairs, truth):
    comparison = compared(pairs, truth, LAWS, num_steps=150)
    assert comparison.best == truth or not comparison.is_conclusive(truth)


def test_a_difference_within_the_errors_of_the_fit_is_not_conclusive(scored):
    worse = scored | {"fisher": replace(scored["fisher"], joint=scored["fisher"].joint - 5)}
    comparison = compare_scores(worse)
    assert comparison.best == "power"
    high = comparison.difference("fisher")["high"]
    assert high < 0
    for errors, conclusive in (
        ({}, True),
        ({"fisher": -high - 0.01}, True),
        ({"fisher": -high + 0.01}, False),
    ):
        judged = replace(comparison, fit_errors=errors)
        assert judged.is_conclusive("power") == judged.is_conclusive("fisher") == conclusive
        row = judged.summary()["fisher"]
        assert row["conclusive"] == conclusive
        assert row["fit_error"] == errors.get("fisher")
    same = compare_scores(dict.fromkeys(scored, scored["power"]))
    assert not any(row["conclusive"] for row in same.summary().values())


def test_a_fit_that_was_stopped_early_or_knows_its_data_too_well_has_errors(pairs):
    candidates = {"power": POWER, "fisher": Likelihood(VonMisesFisher, RADIUS)}
    law = LAWS["power"]
    few, many = (simulated(pairs, law, n, "train", seed=1) for n in (20, 400))
    heldout = simulated(pairs, law, 20, "test", seed=2)
    arguments = {"num_samples": 20, "learning_rate": 1e-2}
    early = compare_likelihoods(many, heldout, candidates, GUIDE, num_steps=20, **arguments)
    known = compare_likelihoods(few, heldout, candidates, GUIDE, num_steps=100, **arguments)
    for comparison in (early, known):
        assert comparison.fit_errors["power"] > 0.3
        assert not comparison.is_conclusive("power")


def test_scores_are_the_densities_written_by_hand(pairs):
    method = _method(pairs, student(2.0))
    pairs = replace(pairs, method=method)
    scores = heldout_scores(pairs, 30, seed=5)
    posterior, scale, target = pairs.arguments()
    torch.manual_seed(5)
    z = posterior.sample((30,))
    law = SphericalStudentT(
        normalize(z, dim=-1), scale / method.reference_radius, 2.0, normalized=True
    )
    direction = law.log_prob(normalize(target, dim=-1)).double()
    radius = RadialLogNormal(z.norm(dim=-1), 0.5)
    radius = radius.log_prob(target.norm(dim=-1)).double()
    for value, expected in (
        (scores.factors["direction"], direction),
        (scores.factors["radius"], radius),
        (scores.joint, direction + radius),
    ):
        torch.testing.assert_close(value, expected.exp().mean(0).log(), rtol=1e-5, atol=1e-5)


def test_many_draws_are_scored_in_parts_as_in_one(pairs, monkeypatch):
    pairs = replace(pairs, method=_method(pairs, POWER))
    whole = heldout_scores(pairs, 4000, seed=0).joint
    monkeypatch.setattr("vje_pyro.diagnostics._programs._CHUNK_BYTES", 500 * 4 * 2 * 40 * D)
    torch.testing.assert_close(
        heldout_scores(pairs, 4000, seed=1).joint, whole, rtol=0.02, atol=0.2
    )


def test_the_table_is_the_arithmetic_of_images(scored):
    comparison = compare_scores(scored)
    summary = comparison.summary()
    json.dumps(summary, allow_nan=False)
    assert list(summary) == sorted(
        scored, key=lambda name: scored[name].joint.mean().item(), reverse=True
    )
    best, other = summary
    for site in ("joint", "direction", "radius"):
        values = {
            n: (s.joint if site == "joint" else s.factors[site]).view(2, -1).mean(0)
            for n, s in scored.items()
        }
        row = summary[other][site]
        assert row["value"] == pytest.approx(values[other].mean().item())
        assert row["n"] == len(values[other])
        assert row["se"] == pytest.approx(values[other].std().item() / len(values[other]) ** 0.5)
        difference = (values[other] - values[best]).mean().item()
        assert row["difference"]["value"] == pytest.approx(difference)
        assert summary[best][site]["difference"]["value"] == 0
    assert [row["rank"] for row in summary.values()] == [0, 1]


def test_refitting_leaves_the_given_method_as_it_is(pairs):
    before = {name: value.clone() for name, value in pairs.method.state_dict().items()}
    direction, state = pairs.method.direction, torch.get_rng_state()
    fitted = refit(pairs, student(3.0), GUIDE, num_steps=3)
    assert fitted.direction.keywords == {"df": 3.0, "normalized": True}
    assert pairs.method.direction is direction
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in pairs.method.state_dict().items():
        assert torch.equal(value, before[name])
    assert not fitted.training
    assert not any(p.requires_grad for p in fitted.parameters())
    first, second = (refit(pairs, student(3.0), GUIDE, num_steps=3, seed=s) for s in (0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, fitted.state_dict()[name]), name
    assert not torch.equal(first.inference.network[0].weight, second.inference.network[0].weight)


def test_fitting_improves_the_held_out_density(pairs):
    law = partial(SphericalStudentT, df=50.0)
    train = simulated(pairs, law, 300, "train", seed=1)
    heldout = simulated(pairs, law, 200, "test", seed=2)
    means = [
        heldout_scores(replace(heldout, method=refit(train, POWER, GUIDE, num_steps=n)), 20)
        .joint.mean()
        .item()
        for n in (1, 100)
    ]
    assert means[1] > means[0] + 1


@pytest.mark.parametrize(
    ("likelihood", "sites"),
    [
        (Likelihood(partial(SphericalStudentT, df=1.0), RADIUS), "direction"),
        (
            Likelihood(PowerSpherical, partial(RadialStudentT, scale=1.0, df=1.0)),
            "radius",
        ),
        (
            Likelihood(
                partial(SphericalStudentT, df=1.0), partial(RadialStudentT, scale=1.0, df=1.0)
            ),
            "direction and radius",
        ),
    ],
)
def test_a_subdensity_is_refused_before_anything_is_fitted(pairs, likelihood, sites, monkeypatch):
    monkeypatch.setattr("vje_pyro.diagnostics.likelihood_comparison.refit", None)
    candidates = {"sub": likelihood, "density": POWER}
    with pytest.raises(ValueError, match=f"the {sites} of 'sub' is a subdensity.*normalized=True"):
        compare_likelihoods(pairs, pairs, candidates, GUIDE)
    with pytest.raises(ValueError, match="not even with another one"):
        compare_likelihoods(pairs, pairs, {"sub": likelihood, "same": likelihood}, GUIDE)


def test_scores_of_a_subdensity_are_refused(pairs, scored):
    subdensity = heldout_scores(pairs, 5)
    assert subdensity.subdensities == ("direction", "radius")
    with pytest.raises(ValueError, match="of 'trained' is a subdensity"):
        compare_scores(scored | {"trained": subdensity})


def test_other_data_are_refused(pairs, scored):
    method = _method(pairs, POWER)
    fewer = heldout_scores(replace(pairs.subset(slice(10)), method=method), 5)
    with pytest.raises(ValueError, match="'fewer' and 'power' were scored on different data"):
        compare_scores(scored | {"fewer": fewer})
    moved = replace(pairs, embeddings=pairs.embeddings.flip(0), method=method)
    with pytest.raises(ValueError, match="'moved' and 'power' were scored on different data"):
        compare_scores(scored | {"moved": heldout_scores(moved, 5)})


def test_other_factors_are_refused(pairs, scored):
    method = _method(pairs, Likelihood(PowerSpherical, None))
    scores = heldout_scores(replace(pairs, method=method), 5)
    with pytest.raises(ValueError, match="'no radius' is a density of"):
        compare_scores(scored | {"no radius": scores})
