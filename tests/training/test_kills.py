"""A run that is killed, at whatever file operation, is started anew or resumed and ends alike."""

import sys

import pytest
from operations import snapshots

from vje_pyro.atomic import leftovers
from vje_pyro.errors import CheckpointError
from vje_pyro.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks up descriptors in /proc")

SETTINGS = {
    "epochs": 2,
    "log_every": 1,
    "checkpoint_every_steps": 1,
    "checkpoint_every_epochs": 1,
    "config": {"a": 1},
}


def go_on(toy, path):
    """One of the two commands works, and the error of the other names it; says which."""
    try:
        toy.train(path, loader=toy.ToyLoader(size=32), **SETTINGS)
        return "anew"
    except CheckpointError as error:
        said = str(error)
    assert f"vje train resume={path}" in said
    toy.train(path, loader=toy.ToyLoader(size=32), resume=True, **SETTINGS)
    return "resumed"


def final(toy, path):
    checkpoint = load_checkpoint(path / "checkpoints" / "last.safetensors")
    logs = [toy.untimed(toy.rows(path, name)) for name in ("steps", "epochs")]
    return checkpoint.model, checkpoint.optimizer, logs


@pytest.mark.slow  # sixty trainings
def test_a_kill_at_every_file_operation_loses_nothing(tmp_path, toy):
    whole = tmp_path / "whole"
    killed = snapshots(whole, tmp_path / "killed", lambda: go_on(toy, whole))
    assert len(killed) > 60
    model, optimizer, logs = final(toy, whole)
    ways = set()
    for operation, path in killed:
        with_run = (path / "checkpoints" / "last.safetensors").is_file()
        if not with_run:
            with pytest.raises(CheckpointError, match=f"vje train run_dir={path}"):
                toy.train(path, loader=toy.ToyLoader(size=32), resume=True, **SETTINGS)
        way = go_on(toy, path)
        assert (way == "resumed") == with_run, operation
        ways.add(way)
        found, state, rows = final(toy, path)
        assert toy.same_state(found, model), operation
        assert all(toy.same_state(state[name], optimizer[name]) for name in optimizer), operation
        assert rows == logs, operation
        folders = (path, path / "checkpoints", path / "logs")
        assert not any(list(leftovers(folder)) for folder in folders), operation
    assert ways == {"anew", "resumed"}
