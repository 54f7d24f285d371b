"""Every planted fault is caught by a diagnostic, and the right model by none."""

import json

import pytest
import torch

from studies import faults
from studies.tables import faults_table

SIZES = 60, 32
"""Images and features of the small table."""

CAUGHT = {
    "likelihood scale times 1.5": ["features", "prior_features"],
    "likelihood scale times 2": ["features", "prior_features"],
    "likelihood scale divided by 1.5": ["features", "prior_features"],
    "likelihood scale divided by 2": ["features", "prior_features"],
    "guide overconfident by 1.5": ["blocks", "c2st", "sbc_guide"],
    "guide overconfident by 2": ["blocks", "sbc_guide"],
    "z ignored": ["latent"],
    "prior scale times 2": ["prior_features"],
    "prior scale divided by 2": ["features", "prior_features"],
    "σ of features permuted in the likelihood": ["features", "prior_features"],
    "σ of features permuted in the guide": ["blocks", "c2st", "sbc_guide"],
    "σ of one feature divided by 10 in the guide": ["blocks", "sbc_guide"],
    "σ of every feature off by 10 % in the guide": [],
    "target from another image": ["features"],
}
"""Checks that catch a fault even where the data are few; many others do too."""


def test_the_right_model_passes_every_check():
    assert not any(faults.found(faults.FAULTS["none"], SIZES).values())


@pytest.mark.parametrize("fault", CAUGHT)
def test_every_fault_is_caught(fault):
    pairs = faults.make_pairs(faults.FAULTS[fault], *SIZES)
    verdicts = {name: faults.CHECKS[name](pairs, 0).verdict for name in CAUGHT[fault]}
    assert all(verdict.flagged for verdict in verdicts.values()), verdicts


def test_no_fault_is_left_out():
    assert {"none", *CAUGHT} == set(faults.FAULTS)


def test_what_is_planted_is_what_it_says():
    """Posterior standard deviations of the guide given one view, beside the exact ones."""
    noise = faults.true_noise(4)
    exact = noise / (1 + noise.square()).sqrt()

    def guide(fault):
        posterior = faults.FAULTS[fault].method(noise).infer(torch.ones(1, 4)).posterior
        return posterior.stddev[0]

    torch.testing.assert_close(guide("none"), exact)
    torch.testing.assert_close(guide("guide overconfident by 2"), exact / 2)
    torch.testing.assert_close(guide("z ignored"), torch.ones(4))
    permuted = guide("σ of features permuted in the guide")
    torch.testing.assert_close(permuted.sort().values, exact.sort().values)
    assert not torch.equal(permuted, exact)
    torch.testing.assert_close(guide("prior scale times 2"), (1 / (0.25 + noise**-2)).sqrt())


def test_the_table_of_a_small_command(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "FAULTS", {"none": faults.FAULTS["none"]})
    monkeypatch.setattr(faults, "CHECKS", {"features": faults.CHECKS["features"]})
    file = tmp_path / "diagnostics" / "faults.json"
    assert faults_table(tmp_path) == "No results yet."
    sizes = ["--features", "4", "--images", "20", "--null-features", "4", "--repetitions", "2"]
    faults.main(sizes, file)
    record = json.loads(file.read_text())
    assert record["config"]["seed"] == 0
    assert record["commit"]
    heading, _, none, alarms = faults_table(tmp_path).splitlines()
    assert heading == "| fault | `features` |"
    assert none == "| none |  |"
    assert alarms == "| none, other data: flagged | 0 of 2 |"


def test_the_recorded_table_catches_every_fault():
    record = json.loads(faults.FILE.read_text())
    assert set(record["faults"]) == set(faults.FAULTS)
    for fault, found in record["faults"].items():
        assert any(found.values()) == (fault != "none"), fault
    # 1 % of 100 is 1; more than 5 has a probability of 0.05 %.
    assert record["config"]["repetitions"] == 100
    assert all(count <= 5 for count in record["false_alarms"].values())


@pytest.mark.slow
def test_every_fault_is_caught_in_64_dimensions():
    for fault in faults.FAULTS:
        found = faults.found(faults.FAULTS[fault], (100, 64))
        assert any(found.values()) == (fault != "none"), (fault, found)
