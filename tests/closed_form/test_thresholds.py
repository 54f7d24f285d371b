"""The thresholds against the closed forms on population moments."""

import numpy as np
import pytest

from vje_pyro.closed_form import ViewMoments, alignment_thresholds, joint_embedding, reconstruction

SIGNAL = np.array([5.0, 2.0, 1.0])
GENERIC_SIGNAL = np.array([0.5, 1.0, 0.3])
K = len(SIGNAL)


def encoders(irrelevant, generic, alpha):
    """Both encoders for infinitely many data."""
    second = np.diag(np.concatenate([SIGNAL, irrelevant]))
    within = np.diag(np.concatenate([GENERIC_SIGNAL, generic + alpha**2 * irrelevant]))
    moments = ViewMoments(second, second, within)
    return reconstruction(moments, K).encoder, joint_embedding(moments, K)[0]


def ignores_irrelevant(encoder):
    return np.abs(encoder[:, K:]).max() < 1e-9


@pytest.mark.parametrize("generic", [np.zeros(2), np.array([0.2, 0.04])])
@pytest.mark.parametrize("irrelevant", [[0.3, 0.1], [2.0, 1.0], [40.0, 3.0]])
def test_just_above_its_threshold_a_method_ignores_irrelevant_features(irrelevant, generic):
    irrelevant = np.array(irrelevant)
    found = alignment_thresholds(SIGNAL, GENERIC_SIGNAL, irrelevant, generic)
    for method, threshold in enumerate((found.reconstruction, found.joint_embedding)):
        above = encoders(irrelevant, generic, threshold + 1e-3)[method]
        assert ignores_irrelevant(above)
        if threshold > 0:
            below = encoders(irrelevant, generic, threshold - 1e-3)[method]
            assert not ignores_irrelevant(below)


def test_strong_irrelevant_features_favour_joint_embedding_and_weak_ones_reconstruction():
    strong = alignment_thresholds(SIGNAL, GENERIC_SIGNAL, [40.0], 0.0)
    weak = alignment_thresholds(SIGNAL, GENERIC_SIGNAL, [0.1], 0.0)
    assert strong.joint_embedding < strong.reconstruction
    assert weak.reconstruction == 0 < weak.joint_embedding
    assert strong.joint_embedding == weak.joint_embedding


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("signal", ([0.0], 1.0, [1.0], 0.0)),
        ("generic_signal", ([1.0], -1.0, [1.0], 0.0)),
        ("irrelevant", ([1.0], 1.0, [], 0.0)),
        ("generic", ([1.0], 1.0, [1.0], np.nan)),
    ],
)
def test_a_variance_out_of_range_is_refused(name, arguments):
    with pytest.raises(ValueError, match=f"^{name}: variances wanted"):
        alignment_thresholds(*arguments)
