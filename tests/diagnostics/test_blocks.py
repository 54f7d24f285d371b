from studies.faults import FAULTS, make_pairs
from vje_pyro.diagnostics import block_importance, importance_weights


def test_the_exact_posterior_has_no_tail():
    result = block_importance(make_pairs(FAULTS["none"], 8, 20), block_size=8)
    assert result.blocks == ("z[0:8]", "z[8:16]", "z[16:20]")
    assert result.pareto_k.tolist() == [[0.0] * 3] * 8
    assert not result.verdict.flagged


def test_one_sharp_feature_is_found_in_its_block():
    sharp = make_pairs(FAULTS["σ of one feature divided by 10 in the guide"], 16, 32)
    result = block_importance(sharp)
    assert result.median[0] > 0.7
    assert result.median[1] == 0
    assert "1 of 2 blocks" in result.verdict.text
    assert "z[0:16]" in result.verdict.text


def test_blocks_tell_small_errors_from_a_large_one_where_the_whole_does_not():
    rough = make_pairs(FAULTS["σ of every feature off by 10 % in the guide"], 16, 256)
    whole = importance_weights(rough)
    assert whole.verdict.flagged
    assert not block_importance(rough).verdict.flagged


def test_one_view_says_that_the_target_was_not_seen(pairs):
    result = block_importance(pairs, num_images=3, block_size=4)
    assert result.pareto_k.shape == (6, 2)
    assert not result.joint
    assert result.summary()["num_data"] == 6
