"""Every knob of the loop does something."""

import io
import logging
import re
from functools import partial

import pytest
import torch
from rich.console import Console

from vje_pyro.training import progress as progress_module
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.schedule import WarmupCosine


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
    assert [row["knn"] for row in toy.rows(tmp_path, "epochs")] == ["", "0.5", "", "0.5", "0.5"]


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

    toy.set_loss(method, with_elbo)
    _, by_elbo = toy.train(tmp_path / "elbo", method)
    losses = [float(row["loss"]) for row in toy.rows(tmp_path / "elbo", "epochs")]
    assert by_elbo.best_metric == "elbo"
    assert by_elbo.best_value == pytest.approx(-min(losses))

    _, by_loss = toy.train(tmp_path / "loss")
    losses = [float(row["loss"]) for row in toy.rows(tmp_path / "loss", "epochs")]
    assert (by_loss.best_metric, by_loss.best_value) == ("loss", min(losses))


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
