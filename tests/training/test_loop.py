"""The loop: what a run writes, resumes, refuses; every knob; no host syncs."""

import csv
import io
import json
import logging
import os
import re
import signal
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from rich.console import Console

from vje_pyro.errors import CheckpointError, NonFiniteError
from vje_pyro.provenance import versions
from vje_pyro.training import progress as progress_module
from vje_pyro.training.checkpoint import load_checkpoint, load_weights
from vje_pyro.training.collapse import CollapseAlarm, CollapseError, Thresholds
from vje_pyro.training.interrupt import Interrupted
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.optim import LARS, WarmupCosine
from vje_pyro.training.seeding import seed_step

OPTIMISERS = {
    "adamw": partial(torch.optim.AdamW, lr=1e-2, fused=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    "lars": partial(LARS, lr=0.1, weight_decay=1e-3, trust_coefficient=0.1),
}


def rows(run, log):
    with (run / "logs" / f"{log}.csv").open() as file:
        return list(csv.DictReader(file))


def untimed(table):
    return [
        {k: v for k, v in row.items() if k not in ("time", "images_per_second", "peak_memory")}
        for row in table
    ]


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def fail_at(toy, step, error=RuntimeError):
    """Views that fail in the ``step``-th call (from 1)."""
    calls = []

    def views(images):
        calls.append(1)
        if len(calls) == step:
            raise error("stopped by the test")
        return toy.views(images)

    return views


# -------------------------------------------------------------- what a run leaves behind


def test_a_run_leaves_what_it_should(tmp_path, toy):
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=lambda *_: 0.5)
    method, result = toy.train(
        tmp_path, checkpoint_every_epochs=2, monitor=monitor, config={"data": "toy"}
    )
    assert (result.step, result.epoch) == (12, 3)
    assert (result.best_metric, result.best_value) == ("knn", 0.5)
    assert checkpoints(tmp_path) == [
        "best.safetensors",
        "epoch_0002.safetensors",
        "last.safetensors",
    ]
    assert result.last == tmp_path / "checkpoints" / "last.safetensors"
    last = load_checkpoint(result.last)
    assert (last.step, last.epoch, last.config) == (12, 3, {"data": "toy"})
    assert last.versions["torch"] == versions()["torch"]
    assert toy.same_state(last.model, method.state_dict())
    assert load_checkpoint(result.best).epoch == 1  # the first of equals

    steps = rows(tmp_path, "steps")
    assert [int(row["step"]) for row in steps] == [3, 6, 9, 12]
    assert [int(row["epoch"]) for row in steps] == [1, 2, 3, 3]
    assert ",".join(steps[0]) == (
        "step,epoch,time,images_per_second,lr,loss,near,spread,grad_norm,angle"
    )
    for row in steps:
        assert float(row["loss"]) == pytest.approx(float(row["near"]) + float(row["spread"]))
        assert float(row["grad_norm"]) > 0

    epochs = rows(tmp_path, "epochs")
    assert [(int(row["epoch"]), int(row["step"])) for row in epochs] == [(1, 4), (2, 8), (3, 12)]
    assert [row["knn"] for row in epochs] == ["0.5"] * 3
    assert all(1 <= float(row["rankme"]) <= 4 for row in epochs)

    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"] == {"data": "toy"}
    assert record["seed"] == 0
    assert record["resumed"] == []
    assert set(record) == {
        "config", "seed", "versions", "commit", "command", "created", "resumed",
    }  # fmt: skip


def test_interval_rows_average_the_steps(tmp_path, toy):
    toy.train(tmp_path / "each", log_every=1)
    toy.train(tmp_path / "three", log_every=3)
    each = [float(row["loss"]) for row in rows(tmp_path / "each", "steps")]
    three = [float(row["loss"]) for row in rows(tmp_path / "three", "steps")]
    assert three == pytest.approx([sum(each[i : i + 3]) / 3 for i in range(0, 12, 3)])
    epoch = [float(row["loss"]) for row in rows(tmp_path / "three", "epochs")]
    assert epoch == pytest.approx([sum(each[i : i + 4]) / 4 for i in range(0, 12, 4)])


def test_the_rest_of_an_interval_gets_a_row(tmp_path, toy):
    toy.train(tmp_path, log_every=5)
    assert [int(row["step"]) for row in rows(tmp_path, "steps")] == [5, 10, 12]


def test_the_rate_follows_the_schedule(tmp_path, toy):
    schedule = WarmupCosine(warmup=0.25, final=0.1)
    toy.train(tmp_path, log_every=1, schedule=schedule)
    rates = [float(row["lr"]) for row in rows(tmp_path, "steps")]
    assert rates == pytest.approx([1e-2 * schedule(step, 12) for step in range(12)])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_training_lowers_the_loss(tmp_path, toy, name):
    toy.train(tmp_path, epochs=8, optimizer=OPTIMISERS[name])
    losses = [float(row["loss"]) for row in rows(tmp_path, "epochs")]
    assert losses[-1] < 0.8 * losses[0]


# ------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize(
    ("name", "step"), [("adamw", step) for step in (1, 4, 5, 12)] + [("sgd", 7), ("lars", 7)]
)
def test_resume_is_bit_equal(tmp_path, toy, name, step):
    settings = {
        "optimizer": OPTIMISERS[name],
        "checkpoint_every_steps": 1,
        "clip_grad_norm": 1.0,
        "monitor": Monitor(toy.ToyLoader(), toy.normalize, score=lambda b, *_: float(b.sum())),
    }
    whole, expected = toy.train(tmp_path / "whole", **settings)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        toy.train(tmp_path / "cut", make_views=fail_at(toy, step), **settings)
    assert load_checkpoint(tmp_path / "cut/checkpoints/last.safetensors").step == step - 1
    torch.manual_seed(99)  # what the resumed process starts from must not matter
    resumed, result = toy.train(tmp_path / "cut", toy.ToyMethod(), resume=True, **settings)
    assert toy.same_state(whole.state_dict(), resumed.state_dict())
    assert (result.step, result.best_value) == (expected.step, expected.best_value)
    for log in ("steps", "epochs"):
        a, b = untimed(rows(tmp_path / "whole", log)), untimed(rows(tmp_path / "cut", log))
        assert a == b
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert [entry["step"] for entry in record["resumed"]] == [step - 1]


def test_time_is_cumulated_over_resumptions(tmp_path, toy):
    with pytest.raises(RuntimeError):
        toy.train(tmp_path, make_views=fail_at(toy, 5))
    path = tmp_path / "checkpoints" / "last.safetensors"
    before = load_checkpoint(path).extra["seconds"]
    _, result = toy.train(tmp_path, resume=True)
    times = [float(row["time"]) for row in rows(tmp_path, "epochs")]
    assert times == sorted(times)
    assert before < times[1] <= result.seconds


def test_a_finished_run_is_resumed_without_a_step(tmp_path, toy):
    method, first = toy.train(tmp_path)
    logs = untimed(rows(tmp_path, "steps"))
    again, second = toy.train(tmp_path, toy.ToyMethod(), resume=True)
    assert again.losses == 0
    assert second.step == first.step
    assert second.best_value == first.best_value
    assert toy.same_state(method.state_dict(), again.state_dict())
    assert untimed(rows(tmp_path, "steps")) == logs


def test_a_run_can_be_made_longer(tmp_path, toy):
    toy.train(tmp_path, epochs=1)
    _, result = toy.train(tmp_path, epochs=2, resume=True)
    assert result.step == 8
    assert [int(row["step"]) for row in rows(tmp_path, "epochs")] == [4, 8]


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


# ------------------------------------------------------------------------ things go wrong


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

    method.loss = loss
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


def test_second_interrupt_does_not_wait(tmp_path, toy):
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
    with pytest.raises(ValueError, match="accumulate=17 splits a batch of 16"):
        toy.train(tmp_path / "b", accumulate=17)


def test_collapse_can_stop_the_run(tmp_path, toy):
    alarm = CollapseAlarm(Thresholds(embedding_std=100.0), on_collapse="stop", grace_epochs=1)
    monitor = Monitor(toy.ToyLoader(), toy.normalize, alarm=alarm)
    with pytest.raises(CollapseError, match="collapsed after epoch 2: embedding_std"):
        toy.train(tmp_path, monitor=monitor)
    assert load_checkpoint(tmp_path / "checkpoints/last.safetensors").step == 8
    alarms = [row["alarms"] for row in rows(tmp_path, "epochs")]
    assert alarms[0] == ""
    assert alarms[1].startswith("embedding_std")


def test_parts_of_the_loss_reach_the_alarm(tmp_path, toy, caplog):
    method = toy.make_method()
    healthy = method.loss

    def loss(views):
        out = healthy(views)
        return type(out)(out.total, dict(out.parts) | {"kl": out.total.detach() * 0}, out.monitors)

    method.loss = loss
    monitor = Monitor(toy.ToyLoader(), toy.normalize)
    with caplog.at_level(logging.WARNING):
        toy.train(tmp_path, method, monitor=monitor)
    assert any("kl 0 nats per dimension" in row["alarms"] for row in rows(tmp_path, "epochs"))
    assert "COLLAPSE ALARM" in caplog.text


# ------------------------------------------------------------------- speed and precision


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_no_host_sync_between_log_steps(tmp_path, toy, monkeypatch, name, clip):
    step, syncs = [0], []

    def views(images):
        step[0] += 1
        return toy.views(images)

    def counted(method):
        original = getattr(torch.Tensor, method)

        def wrapper(*args, **kwargs):
            syncs.append((step[0], method))
            return original(*args, **kwargs)

        return wrapper

    for method in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, method, counted(method))
    toy.train(
        tmp_path, loader=toy.ToyLoader(size=640), make_views=views, epochs=1, max_steps=39,
        log_every=10, optimizer=OPTIMISERS[name], clip_grad_norm=clip,
    )  # fmt: skip
    inside = [sync for sync in syncs if 0 < sync[0] < 39]
    assert inside == [(10, "tolist"), (20, "tolist"), (30, "tolist")]


@pytest.mark.parametrize(("precision", "expected"), [("32-true", False), ("bf16-mixed", True)])
def test_precision_reaches_the_loss(tmp_path, toy, precision, expected):
    method = toy.make_method()
    healthy, seen = method.loss, []

    def loss(views):
        seen.append((torch.is_autocast_enabled("cpu"), method.conv(views[0]).dtype))
        return healthy(views)

    method.loss = loss
    toy.train(
        tmp_path, method, fabric=Fabric(accelerator="cpu", devices=1, precision=precision), epochs=1
    )
    dtype = torch.bfloat16 if expected else torch.float32
    assert set(seen) == {(expected, dtype)}
    assert method.conv.weight.dtype == torch.float32
    assert load_checkpoint(tmp_path / "checkpoints/last.safetensors").step == 4


def test_half_precision_without_scaling_is_refused(tmp_path, toy):
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    with pytest.raises(ValueError, match="bf16-mixed"):
        toy.train(tmp_path, fabric=fabric)


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_accumulation_equals_the_whole_batch(tmp_path, toy, parts):
    settings = {
        "make_views": toy.plain_views,
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "log_every": 1,
    }
    whole = toy.make_method(noise=0.0, batch_norm=False)
    split = toy.make_method(noise=0.0, batch_norm=False)
    toy.train(tmp_path / "whole", whole, **settings)
    toy.train(tmp_path / "split", split, accumulate=parts, **settings)
    assert split.losses == parts * whole.losses
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    for a, b in zip(
        rows(tmp_path / "whole", "steps"), rows(tmp_path / "split", "steps"), strict=True
    ):
        for name in ("loss", "near", "spread", "angle", "grad_norm"):
            assert float(b[name]) == pytest.approx(float(a[name]), rel=1e-4)


def test_monitoring_does_not_disturb_training(tmp_path, toy):
    def noisy_score(*_):
        return float(torch.rand(()))

    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=noisy_score)
    plain, _ = toy.train(tmp_path / "plain")
    watched, _ = toy.train(tmp_path / "watched", monitor=monitor)
    assert toy.same_state(plain.state_dict(), watched.state_dict())


def test_a_frozen_part_stays_out_of_the_optimizer(tmp_path, toy):
    method = toy.make_method()
    method.conv.requires_grad_(False)
    before = method.conv.weight.clone()
    toy.train(tmp_path, method)
    assert torch.equal(method.conv.weight, before)
    names = load_checkpoint(tmp_path / "checkpoints/last.safetensors").optimizer
    assert set(names) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


# ------------------------------------------------------------------- every knob does something


@pytest.mark.parametrize(
    "knob",
    [
        {"seed": 1},
        {"epochs": 4},
        {"max_steps": 7},
        {"schedule": WarmupCosine(warmup=0.5)},
        {"optimizer": partial(torch.optim.AdamW, lr=1e-3)},
        {"clip_grad_norm": 0.1},
        {"accumulate": 2},
    ],
    ids=lambda knob: next(iter(knob)),
)
def test_knobs_that_change_the_weights(tmp_path, toy, knob):
    sgd = {"optimizer": partial(torch.optim.SGD, lr=0.1)}
    plain, _ = toy.train(tmp_path / "plain", **sgd)
    same, _ = toy.train(tmp_path / "same", **sgd)
    other, result = toy.train(tmp_path / "other", **sgd | knob)
    assert toy.same_state(plain.state_dict(), same.state_dict())
    assert not toy.same_state(plain.state_dict(), other.state_dict())
    assert result.step == {"epochs": 16, "max_steps": 7}.get(next(iter(knob)), 12)


def test_every_epochs_of_the_monitor(tmp_path, toy):
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=lambda *_: 0.5, every_epochs=2)
    toy.train(tmp_path, monitor=monitor, epochs=5)
    assert [row["knn"] for row in rows(tmp_path, "epochs")] == ["", "0.5", "", "0.5", "0.5"]


def test_best_is_by_knn_then_elbo_then_loss(tmp_path, toy):
    scores = iter([0.2, 0.9, 0.4])
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=lambda *_: next(scores))
    _, by_knn = toy.train(tmp_path / "knn", monitor=monitor)
    assert (by_knn.best_metric, by_knn.best_value) == ("knn", 0.9)
    assert load_checkpoint(by_knn.best).epoch == 2

    method = toy.make_method()
    healthy = method.loss

    def with_elbo(views):
        out = healthy(views)
        return type(out)(out.total, {"elbo": -out.total.detach()}, {})

    method.loss = with_elbo
    _, by_elbo = toy.train(tmp_path / "elbo", method)
    losses = [float(row["loss"]) for row in rows(tmp_path / "elbo", "epochs")]
    assert by_elbo.best_metric == "elbo"
    assert by_elbo.best_value == pytest.approx(-min(losses))

    _, by_loss = toy.train(tmp_path / "loss")
    losses = [float(row["loss"]) for row in rows(tmp_path / "loss", "epochs")]
    assert (by_loss.best_metric, by_loss.best_value) == ("loss", min(losses))


def test_tensorboard_switch(tmp_path, toy):
    pytest.importorskip("tensorboard")
    toy.train(tmp_path / "on", tensorboard=True)
    toy.train(tmp_path / "off", tensorboard=False)
    assert any((tmp_path / "on" / "logs" / "tb").iterdir())
    assert not (tmp_path / "off" / "logs" / "tb").exists()


def test_progress_is_a_line_per_epoch_without_a_terminal(tmp_path, toy, caplog):
    with caplog.at_level(logging.INFO):
        toy.train(tmp_path / "on", progress=True)
        lines = [r.message for r in caplog.records if r.message.startswith("epoch ")]
        caplog.clear()
        toy.train(tmp_path / "off", progress=False)
    assert len(lines) == 3
    assert re.fullmatch(r"epoch 2/3: loss \S+, [\d,]+ images/s, about 0:00:0\d left", lines[1])
    assert not [r for r in caplog.records if r.message.startswith("epoch ")]


def test_progress_is_a_bar_in_a_terminal(tmp_path, toy, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr(progress_module, "Console", lambda **_: console)
    toy.train(tmp_path, progress=True)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = text.rstrip().splitlines()[-1]
    assert "epoch 3/3" in last
    assert "100%" in last
    assert "12/12" in last
    assert re.search(r"loss 0\.\d+", last)
    assert re.search(r"[\d,]+ images/s", last)


# -------------------------------------------------------------------------- small pieces


def test_seed_step_depends_on_each_number():
    draws = set()
    for numbers in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 10**9, 7)]:
        seed_step(*numbers)
        first = torch.rand(()).item()
        seed_step(*numbers)
        assert torch.rand(()).item() == first
        draws.add(first)
    assert len(draws) == 5
