"""Means over steps, and the first fault among them."""

import json
import math

import pytest
import torch

from vje_pyro.training.meter import Fault, Meter


def scalar(value):
    return torch.tensor(float(value))


def test_interval_and_epoch_means():
    meter = Meter()
    for step in range(1, 6):
        meter.add(step, {"loss": scalar(step)}, {"angle": scalar(10 * step)})
        if step == 2:
            assert meter.fetch() is None
            assert meter.interval() == {"loss": 1.5, "angle": 15}
    assert meter.fetch() is None
    assert meter.interval() == {"loss": 4, "angle": 40}
    assert meter.interval() == {}
    assert meter.epoch() == {"loss": 3, "angle": 30}
    assert meter.fetch() is None


def test_state_goes_on():
    a, b = Meter(), Meter()
    for meter in (a, b):
        for step in (1, 2):
            meter.add(step, {"loss": scalar(0.1 * step)}, {})
        assert meter.fetch() is None
    restored = Meter()
    restored.load_state(json.loads(json.dumps(a.state())))
    for meter in (b, restored):
        meter.add(3, {"loss": scalar(0.7)}, {})
        assert meter.fetch() is None
    assert restored.interval() == b.interval()
    assert restored.epoch() == b.epoch()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_fault_is_found(value):
    meter = Meter()
    meter.add(4, {"loss": scalar(1), "kl": scalar(1)}, {"angle": scalar(math.nan)})
    meter.add(5, {"loss": scalar(2), "kl": scalar(value)}, {"angle": scalar(1)})
    meter.add(6, {"loss": scalar(math.nan), "kl": scalar(value)}, {"angle": scalar(1)})
    fault = meter.fetch()
    assert isinstance(fault, Fault)
    assert fault.step == 5
    assert list(fault.values) == ["kl"]
    assert str(fault) == f"kl = {value} at step 5"


def test_one_transfer(monkeypatch):
    calls = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: calls.append(1) or original(t))
    meter = Meter()
    for step in range(50):
        meter.add(step, {"loss": scalar(1), "kl": scalar(2)}, {})
    meter.fetch()
    assert calls == [1]


def test_names_must_stay():
    meter = Meter()
    meter.add(1, {"loss": scalar(1)}, {})
    with pytest.raises(ValueError, match=r"\['loss', 'kl'\] at step 2"):
        meter.add(2, {"loss": scalar(1), "kl": scalar(1)}, {})
    with pytest.raises(ValueError, match="twice"):
        Meter().add(1, {"loss": scalar(1)}, {"loss": scalar(1)})


def test_half_precision_and_gradients_are_dropped():
    meter = Meter()
    loss = torch.tensor(1.5, requires_grad=True)
    meter.add(1, {"loss": loss, "kl": torch.tensor(2.0, dtype=torch.bfloat16)}, {})
    assert meter.fetch() is None
    assert meter.interval() == {"loss": 1.5, "kl": 2.0}
