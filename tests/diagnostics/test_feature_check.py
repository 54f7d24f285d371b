import pytest
import torch

from studies.faults import FAULTS, make_pairs, true_data, true_noise
from vje_pyro.diagnostics import feature_check
from vje_pyro.diagnostics.feature_check import blocks_of
from vje_pyro.guides import DiagonalNormal


def test_one_wrong_feature_among_many_is_found():
    pairs = make_pairs(FAULTS["none"], 200, 32)
    pairs.embeddings[:, :, 5] *= 2
    result = feature_check(pairs)
    assert result.pit.shape == (2, 200, 35)
    found = [name for name, wrong in zip(result.quantities, result.found, strict=True) if wrong]
    assert "s[5]" in found
    assert set(found) <= {"s[5]", "s[0:16]", "s[0:32]"}
    assert result.verdict.text.startswith("1 of 32 features")


def test_what_all_features_have_wrong_a_little_is_found_in_blocks():
    # Of 40 images, few features by themselves can be told from chance.
    pairs = make_pairs(FAULTS["likelihood scale times 1.5"], 40, 64)
    result = feature_check(pairs)
    assert result.found[:64].double().mean() < 0.2
    assert result.found[64:].all()
    assert result.verdict.flagged
    assert "too wide" in result.verdict.text
    narrow = feature_check(make_pairs(FAULTS["likelihood scale divided by 1.5"], 40, 64))
    assert "too narrow" in narrow.verdict.text


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_false_alarms_are_as_rare_as_stated(kind):
    # Of 200 data sets 1 % is 2; more than 7 has a probability of 0.1 %.
    flagged = 0
    for seed in range(200):
        pairs = make_pairs(FAULTS["none"], 50, 6, seed)
        flagged += feature_check(pairs, 50, seed, kind, block_size=3).verdict.flagged
    assert flagged <= 7


def test_features_that_depend_on_each_other_raise_no_more_alarms():
    # Twenty features that are one: the other end from independent ones.
    flagged = 0
    for seed in range(100):
        pairs = make_pairs(FAULTS["none"], 50, 2, seed)
        result = feature_check(pairs, 50, seed)
        repeated = result.pit[..., :1].expand(-1, -1, 20)
        twin = type(result)("posterior", tuple(f"s[{d}]" for d in range(20)), repeated, 50)
        flagged += twin.verdict.flagged
    assert flagged <= 5


def test_ranks_are_those_of_the_observation_among_the_draws():
    pairs = make_pairs(FAULTS["none"], 100, 4)
    result = feature_check(pairs, num_samples=2000)
    # Of one view: x_j given x_i is normal, in closed form.
    variance = true_noise(4).square()
    source, target = pairs.one_view().source, pairs.one_view().target
    spread = (variance + variance / (1 + variance)).sqrt()
    exact = torch.distributions.Normal(source / (1 + variance), spread).cdf(target)
    error = (result.pit[..., :4].flatten(0, 1) - exact).abs()
    assert error.max() < 0.06
    prior = feature_check(pairs, num_samples=2000, kind="prior").pit[..., :4].flatten(0, 1)
    exact = torch.distributions.Normal(0.0, (1 + variance).sqrt()).cdf(target)
    assert (prior - exact).abs().max() < 0.06


def test_vje_with_and_without_radius(pairs, untrained_pairs):
    result = feature_check(pairs, 20)
    assert result.quantities[-2:] == ("s[7]", "s[0:8]")
    directions = untrained_pairs(DiagonalNormal, radius=None)
    pit = feature_check(directions, 50).pit
    assert ((pit > 0) & (pit < 1)).all()


def test_blocks():
    assert blocks_of(3, 5) == [slice(0, 3)]
    assert blocks_of(4, 2) == [slice(0, 2), slice(2, 4), slice(0, 4)]


def test_the_data_are_those_of_the_true_model():
    x = true_data(4000, 3, 0)
    variance = 1 + true_noise(3).square()
    assert ((x.var(1) / variance - 1).abs() < 0.12).all()
    assert (((x[0] * x[1]).mean(0) - 1).abs() < 0.15).all()
