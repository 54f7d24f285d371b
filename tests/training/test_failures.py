"""When things go wrong a run says so, and loses nothing."""

import logging
import os
import signal
from functools import partial

import pytest
import torch

from vje_pyro.errors import CheckpointError, NonFiniteError
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.training.collapse import CollapseAlarm, CollapseError, Thresholds
from vje_pyro.training.interrupt import Interrupted, InterruptRequest
from vje_pyro.training.monitors import Monitor


def sick_method(toy, step, where):
    """A toy whose part ``spread``, or whose buffer, stops being finite at ``step``."""
    method = toy.make_method()
    healthy = method.loss

    def loss(views):
        sick = method.losses + 1 == step
        if sick and where == "buffer":
            method.norm.running_mean.fill_(float("inf"))
        out = healthy(views)
        if sick and where == "part":
            parts = dict(out.parts) | {"spread": out.parts["spread"] * float("nan")}
            return type(out)(out.total * float("nan"), parts, out.monitors)
        return out

    toy.set_loss(method, loss)
    return method


def test_nan_is_named_and_the_last_good_checkpoint_kept(tmp_path, toy):
    with pytest.raises(NonFiniteError) as caught:
        toy.train(tmp_path, sick_method(toy, 8, "part"), log_every=100, checkpoint_every_steps=3)
    message = str(caught.value)
    # Found at the epoch's end (step 8) before anything was written
    assert "loss = nan" in message
    assert "spread = nan" in message
    assert "near" not in message
    assert "at step 8." in message
    last = tmp_path / "checkpoints" / "last.safetensors"
    assert f"of step 6, is kept: {last}" in message
    assert f"init_from={tmp_path}" in message
    checkpoint = load_checkpoint(last)
    assert checkpoint.step == 6
    assert all(value.isfinite().all() for value in checkpoint.model.values())
    _, result = toy.train(tmp_path, resume=True)  # with the cause mended, it goes on
    assert result.step == 12


def test_the_first_bad_step_of_an_interval_is_named(tmp_path, toy):
    with pytest.raises(NonFiniteError, match=r"at step 2\."):
        toy.train(tmp_path, sick_method(toy, 2, "part"), log_every=4)
    assert not (tmp_path / "logs" / "steps.csv").exists()


def test_non_finite_buffer_is_named(tmp_path, toy):
    with pytest.raises(NonFiniteError, match=r"norm\.running_mean is not finite at step 4"):
        toy.train(tmp_path, sick_method(toy, 3, "buffer"))
    assert load_checkpoint(tmp_path / "checkpoints/last.safetensors").step == 0


def test_exploding_learning_rate_is_a_non_finite_error(tmp_path, toy):
    with pytest.raises(NonFiniteError, match="lower learning rate"):
        toy.train(tmp_path, optimizer=partial(torch.optim.SGD, lr=1e30), epochs=5)


def test_full_disk_is_a_clear_error(tmp_path, toy, monkeypatch):
    replace, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*resume the run"):
        toy.train(tmp_path, checkpoint_every_steps=1)
    monkeypatch.undo()
    _, result = toy.train(tmp_path, resume=True, checkpoint_every_steps=1)
    assert result.step == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_how_to_go_on(tmp_path, toy, number):
    calls = []

    def views(images):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), number)
        return toy.views(images)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after step 6.*vje train resume=") as caught:
        toy.train(tmp_path / "cut", make_views=views)
    assert caught.value.exit_code == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(number) is handler
    whole, _ = toy.train(tmp_path / "whole")
    resumed, _ = toy.train(tmp_path / "cut", resume=True)
    assert toy.same_state(whole.state_dict(), resumed.state_dict())


def test_the_same_request_may_come_from_a_terminal_and_a_launcher(tmp_path, toy):
    def views(images):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        return toy.views(images)

    with pytest.raises(Interrupted, match="SIGINT after step 1"):
        toy.train(tmp_path, make_views=views)


def test_second_interrupt_does_not_wait(tmp_path, toy, monkeypatch):
    monkeypatch.setattr(InterruptRequest, "same_s", 0.0)

    def views(images):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal must stop here")

    with pytest.raises(KeyboardInterrupt) as caught:
        toy.train(tmp_path, make_views=views)
    assert not isinstance(caught.value, Interrupted)


@pytest.mark.parametrize(
    "knob", ["epochs", "max_steps", "log_every", "checkpoint_every_epochs", "accumulate"]
)
def test_counts_below_one_are_refused(tmp_path, toy, knob):
    with pytest.raises(ValueError, match=f"{knob} must be at least 1, got 0"):
        toy.train(tmp_path / "run", **{knob: 0})
    assert not (tmp_path / "run" / "run.json").exists()


def test_other_bad_knobs(tmp_path, toy):
    with pytest.raises(ValueError, match="clip_grad_norm must be positive or null, got 0"):
        toy.train(tmp_path / "a", clip_grad_norm=0.0)
    with pytest.raises(ValueError, match="accumulate=3 does not split the 16"):
        toy.train(tmp_path / "b", accumulate=3)


def test_collapse_can_stop_the_run(tmp_path, toy):
    alarm = CollapseAlarm(Thresholds(embedding_std=100.0), on_collapse="stop", grace_epochs=1)
    monitor = Monitor(toy.ToyLoader(), toy.normalize, alarm=alarm)
    with pytest.raises(CollapseError, match="collapsed after epoch 2: embedding_std"):
        toy.train(tmp_path, monitor=monitor)
    assert load_checkpoint(tmp_path / "checkpoints/last.safetensors").step == 8
    alarms = [row["alarms"] for row in toy.rows(tmp_path, "epochs")]
    assert alarms[0] == ""
    assert alarms[1].startswith("embedding_std")


def test_parts_of_the_loss_reach_the_alarm(tmp_path, toy, caplog):
    method = toy.make_method()
    healthy = method.loss

    def loss(views):
        out = healthy(views)
        return type(out)(out.total, dict(out.parts) | {"kl": out.total.detach() * 0}, out.monitors)

    toy.set_loss(method, loss)
    monitor = Monitor(toy.ToyLoader(), toy.normalize)
    with caplog.at_level(logging.WARNING):
        toy.train(tmp_path, method, monitor=monitor)
    assert any("kl 0 nats per dimension" in row["alarms"] for row in toy.rows(tmp_path, "epochs"))
    assert "COLLAPSE ALARM" in caplog.text
