"""The loop: what a run leaves behind, its speed and its precision."""

import json
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from vje_pyro.provenance import versions
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.schedule import WarmupCosine
from vje_pyro.training.seeding import seed_step


def test_a_run_leaves_what_it_should(tmp_path, toy):
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=lambda *_: 0.5)
    method, result = toy.train(
        tmp_path, checkpoint_every_epochs=2, monitor=monitor, config={"data": "toy"}
    )
    assert (result.step, result.epoch) == (12, 3)
    assert (result.best_metric, result.best_value) == ("knn", 0.5)
    assert toy.checkpoints(tmp_path) == [
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

    steps = toy.rows(tmp_path, "steps")
    assert [int(row["step"]) for row in steps] == [3, 6, 9, 12]
    assert [int(row["epoch"]) for row in steps] == [1, 2, 3, 3]
    assert ",".join(steps[0]) == (
        "step,epoch,time,images_per_second,lr,loss,near,spread,grad_norm,angle"
    )
    for row in steps:
        assert float(row["loss"]) == pytest.approx(float(row["near"]) + float(row["spread"]))
        assert float(row["grad_norm"]) > 0

    epochs = toy.rows(tmp_path, "epochs")
    assert [(int(row["epoch"]), int(row["step"])) for row in epochs] == [(1, 4), (2, 8), (3, 12)]
    assert [row["knn"] for row in epochs] == ["0.5"] * 3
    assert all(1 <= float(row["rankme"]) <= 4 for row in epochs)

    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"] == {"data": "toy"}
    assert record["seed"] == 0
    assert record["resumed"] == []
    assert set(record) == {
        "data_digest", "config", "seed", "versions", "commit", "command", "created", "resumed",
        "precision",
    }  # fmt: skip


def test_interval_rows_average_the_steps(tmp_path, toy):
    toy.train(tmp_path / "each", log_every=1)
    toy.train(tmp_path / "three", log_every=3)
    each = [float(row["loss"]) for row in toy.rows(tmp_path / "each", "steps")]
    three = [float(row["loss"]) for row in toy.rows(tmp_path / "three", "steps")]
    assert three == pytest.approx([sum(each[i : i + 3]) / 3 for i in range(0, 12, 3)])
    epoch = [float(row["loss"]) for row in toy.rows(tmp_path / "three", "epochs")]
    assert epoch == pytest.approx([sum(each[i : i + 4]) / 4 for i in range(0, 12, 4)])


def test_the_rest_of_an_interval_gets_a_row(tmp_path, toy):
    toy.train(tmp_path, log_every=5)
    assert [int(row["step"]) for row in toy.rows(tmp_path, "steps")] == [5, 10, 12]


def test_the_rate_follows_the_schedule(tmp_path, toy):
    schedule = WarmupCosine(warmup=0.25, final=0.1)
    toy.train(tmp_path, log_every=1, schedule=schedule)
    rates = [float(row["lr"]) for row in toy.rows(tmp_path, "steps")]
    assert rates == pytest.approx([1e-2 * schedule(step, 12) for step in range(12)])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_training_lowers_the_loss(tmp_path, toy, name):
    toy.train(tmp_path, epochs=8, optimizer=toy.OPTIMISERS[name])
    losses = [float(row["loss"]) for row in toy.rows(tmp_path, "epochs")]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
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
        log_every=10, optimizer=toy.OPTIMISERS[name], clip_grad_norm=clip,
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

    toy.set_loss(method, loss)
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


@pytest.mark.parametrize("parts", [2, 4, 16])
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
        toy.rows(tmp_path / "whole", "steps"), toy.rows(tmp_path / "split", "steps"), strict=True
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


def test_seed_step_depends_on_each_number():
    draws = set()
    for numbers in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 10**9, 7)]:
        seed_step(*numbers)
        first = torch.rand(()).item()
        seed_step(*numbers)
        assert torch.rand(()).item() == first
        draws.add(first)
    assert len(draws) == 5
