"""The linear experiment on digits, and its command."""

import json

import numpy as np
import pytest
from commandline import run_cli

from vje_pyro.closed_form.experiment import principal_components, run_experiment
from vje_pyro.data import Digits
from vje_pyro.errors import DataError


@pytest.fixture(scope="module")
def features():
    return principal_components(Digits(), 8)


def test_the_components_are_uncorrelated_and_in_order(features):
    second = features.train.T @ features.train / len(features.train)
    np.testing.assert_allclose(second, np.diag(features.signal), atol=1e-10)
    assert np.all(np.diff(features.signal) <= 0)
    assert features.test.shape == (360, 8)


def test_the_encoders_behave_as_the_thresholds_predict(features):
    found = run_experiment(features, irrelevant_features=16, alphas=(0.0, 3.0, 12.0), seeds=(0, 1))
    weak, strong = (found["strengths"][name] for name in ("weak", "strong"))
    assert weak["thresholds"]["reconstruction"] == 0
    assert weak["thresholds"]["joint_embedding"] == pytest.approx(1)
    assert 3 < strong["thresholds"]["reconstruction"] < 12

    def irrelevant(strength, method):
        return [point["irrelevant"]["value"] for point in strength["curves"][method]]

    assert max(irrelevant(weak, "reconstruction")) < 0.05
    for strength in (weak, strong):
        low, middle, high = irrelevant(strength, "joint_embedding")
        assert low > 0.9 > 0.05 > middle > high
    low, middle, high = irrelevant(strong, "reconstruction")
    assert low > 0.8 > middle > 0.01 > high
    accuracies = [point["accuracy"]["value"] for point in strong["curves"]["joint_embedding"]]
    assert accuracies[0] < 0.2 < found["clean"] - 0.03 < accuracies[2]


def test_no_irrelevant_feature_is_refused(features):
    with pytest.raises(ValueError, match="at least one irrelevant feature"):
        run_experiment(features, irrelevant_features=0)


def test_more_components_than_vary_are_refused():
    with pytest.raises(DataError, match="no 64 components that vary"):
        principal_components(Digits(), 64)


def test_the_command_writes_result_and_picture(tmp_path, capsys):
    arguments = ("--components", 5, "--irrelevant", 5, "--alphas", 0, 2, "--seeds", 0, 1)
    assert run_cli("closed-form", *arguments, "--out", tmp_path) == 0
    result = json.loads((tmp_path / "closed-form-digits.json").read_text())
    assert result["settings"]["components"] == 5
    assert [p["alpha"] for p in result["strengths"]["weak"]["curves"]["reconstruction"]] == [0, 2]
    assert "predicted threshold" in (tmp_path / "closed-form-digits.svg").read_text()
    assert "strong irrelevant features, joint_embedding: threshold" in capsys.readouterr().out
