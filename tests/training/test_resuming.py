"""A run that was broken off goes on as if it had not been."""

import json
from dataclasses import replace

import pytest
import torch

from vje_pyro.errors import CheckpointError
from vje_pyro.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.run_json import read_run_json


@pytest.mark.parametrize(
    ("name", "step"), [("adamw", step) for step in (1, 4, 5, 12)] + [("sgd", 7), ("lars", 7)]
)
def test_resume_is_bit_equal(tmp_path, toy, name, step):
    settings = {
        "optimizer": toy.OPTIMISERS[name],
        "checkpoint_every_steps": 1,
        "clip_grad_norm": 1.0,
        "monitor": Monitor(toy.ToyLoader(), toy.normalize, score=lambda b, *_: float(b.sum())),
    }
    whole, expected = toy.train(tmp_path / "whole", **settings)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        toy.train(tmp_path / "cut", make_views=toy.fail_at(step), **settings)
    assert load_checkpoint(tmp_path / "cut/checkpoints/last.safetensors").step == step - 1
    torch.manual_seed(99)  # what the resumed process starts from must not matter
    resumed, result = toy.train(tmp_path / "cut", toy.ToyMethod(), resume=True, **settings)
    assert toy.same_state(whole.state_dict(), resumed.state_dict())
    assert (result.step, result.best_value) == (expected.step, expected.best_value)
    for log in ("steps", "epochs"):
        a, b = (
            toy.untimed(toy.rows(tmp_path / "whole", log)),
            toy.untimed(toy.rows(tmp_path / "cut", log)),
        )
        assert a == b
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert [entry["step"] for entry in record["resumed"]] == [step - 1]


def test_time_is_cumulated_over_resumptions(tmp_path, toy):
    with pytest.raises(RuntimeError):
        toy.train(tmp_path, make_views=toy.fail_at(5))
    path = tmp_path / "checkpoints" / "last.safetensors"
    before = load_checkpoint(path).extra["seconds"]
    _, result = toy.train(tmp_path, resume=True)
    times = [float(row["time"]) for row in toy.rows(tmp_path, "epochs")]
    assert times == sorted(times)
    assert before < times[1] <= result.seconds


def test_a_finished_run_is_resumed_without_a_step(tmp_path, toy):
    method, first = toy.train(tmp_path)
    logs = toy.untimed(toy.rows(tmp_path, "steps"))
    again, second = toy.train(tmp_path, toy.ToyMethod(), resume=True)
    assert again.losses == 0
    assert second.step == first.step
    assert second.best_value == first.best_value
    assert toy.same_state(method.state_dict(), again.state_dict())
    assert toy.untimed(toy.rows(tmp_path, "steps")) == logs


def test_a_run_can_be_made_longer(tmp_path, toy):
    toy.train(tmp_path, epochs=1)
    _, result = toy.train(tmp_path, epochs=2, resume=True)
    assert result.step == 8
    assert [int(row["step"]) for row in toy.rows(tmp_path, "epochs")] == [4, 8]


def test_used_directory_is_refused_and_left_alone(tmp_path, toy):
    toy.train(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match=r"already holds a run.*vje train resume="):
        toy.train(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=r"already holds a run"):  # run.json is enough
        toy.train(tmp_path)


def test_nothing_to_resume(tmp_path, toy):
    with pytest.raises(CheckpointError, match=r"Nothing to resume.*nowhere"):
        toy.train(tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_run_directory_that_cannot_be_made(tmp_path, toy):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Cannot write in the run directory"):
        toy.train(tmp_path / "file" / "run")


def test_resume_with_another_plan_is_refused(tmp_path, toy):
    toy.train(tmp_path)
    with pytest.raises(CheckpointError, match="seed 0, now 1"):
        toy.train(tmp_path, resume=True, seed=1)
    with pytest.raises(CheckpointError, match="steps_per_epoch 4, now 8"):
        toy.train(tmp_path, loader=toy.ToyLoader(batch_size=8), resume=True)


@pytest.mark.parametrize("change", [{"step": 13}, {"step": 4}, {"epoch": 1}, {"extra": {}}])
def test_a_step_that_does_not_fit_is_refused(tmp_path, toy, change):
    toy.train(tmp_path)
    last = tmp_path / "checkpoints" / "last.safetensors"
    save_checkpoint(replace(load_checkpoint(last), **change), last)
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        toy.train(tmp_path, resume=True)


def test_without_run_json_the_configuration_is_that_of_the_checkpoint(tmp_path, toy):
    toy.train(tmp_path, config={"a": {"b": 1}}, seed=5)
    assert read_run_json(tmp_path)["precision"] == "32-true"
    (tmp_path / "run.json").unlink()
    found = read_run_json(tmp_path)
    assert (found["config"], found["seed"]) == ({"a": {"b": 1}}, 5)
    toy.train(tmp_path, config={"a": {"b": 1}}, seed=5, resume=True)
    assert [start["step"] for start in read_run_json(tmp_path)["resumed"]] == [12]
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged: .* Remove it"):
        toy.train(tmp_path, seed=5, resume=True)


def test_resume_of_a_truncated_checkpoint_is_refused(tmp_path, toy):
    toy.train(tmp_path)
    last = tmp_path / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"truncated.*best\.safetensors"):
        toy.train(tmp_path, resume=True)


def test_init_from_takes_weights_only(tmp_path, toy):
    trained, _ = toy.train(tmp_path / "first")
    fresh = toy.ToyMethod()
    load_weights(tmp_path / "first", fresh)
    assert toy.same_state(trained.state_dict(), fresh.state_dict())
    _, result = toy.train(tmp_path / "second", fresh)
    assert result.step == 12  # from the start


def test_partial_files_are_cleaned_at_resume(tmp_path, toy):
    toy.train(tmp_path)
    partials = [tmp_path / ".run.json.1.tmp", tmp_path / "checkpoints/.last.safetensors.1.tmp"]
    for partial_file in partials:
        partial_file.write_text("half")
    toy.train(tmp_path, resume=True)
    assert not any(partial_file.exists() for partial_file in partials)
