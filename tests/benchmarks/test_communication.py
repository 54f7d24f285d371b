"""What processes send each other is what the formula of docs/scaling.md says."""

import json
import os
import subprocess
import sys

import communication
import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes")
def test_counted_bytes_are_those_of_the_formula(tmp_path):
    path = tmp_path / "communication.json"  # in a process that has not started threads
    command = [sys.executable, communication.__file__, "--processes", "2", "--out", path]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(path.read_text())["scenarios"]
    assert found.keys() == communication.SCENARIOS.keys()
    for figures in found.values():
        assert figures["bytes"] == figures["formula"]
