"""The Hydra groups of this room: each instantiates, and each key is a knob of its target."""

import inspect
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import vje_pyro.experiments
from vje_pyro.training.collapse import CollapseAlarm, Thresholds
from vje_pyro.training.loop import Trainer
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.optim import param_groups
from vje_pyro.training.schedule import WarmupCosine

CONF = Path(vje_pyro.experiments.__file__).parent / "conf"


def load(group, name):
    return OmegaConf.load(CONF / group / f"{name}.yaml")


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "optimizer").glob("*.yaml")])
def test_optimizers(name):
    make = instantiate(load("optimizer", name))
    assert isinstance(make, partial)
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = make(param_groups(net))
    net(torch.randn(4, 2)).pow(2).sum().backward()
    before = net[0].weight.clone()
    optimizer.step()
    assert not torch.equal(before, net[0].weight)
    assert optimizer.param_groups[1]["weight_decay"] == 0


def test_schedule():
    assert instantiate(load("schedule", "warmup_cosine")) == WarmupCosine()


def test_training_keys_are_knobs_of_the_trainer():
    knobs = inspect.signature(Trainer).parameters
    assert set(load("training", "default")) <= set(knobs)


def test_monitor(toy):
    make = instantiate(load("monitor", "default"))
    monitor = make(toy.ToyLoader(), toy.normalize)
    assert isinstance(monitor, Monitor)
    assert monitor.alarm == CollapseAlarm()
    assert monitor.alarm.thresholds == Thresholds()


def test_no_monitor(toy):
    assert not instantiate(load("monitor", "none"))(toy.ToyLoader(), toy.normalize).scores
