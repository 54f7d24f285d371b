"""Means over steps, and the first step that is not finite."""

import json
import math

import pytest
import torch

from vje_pyro.training.step_means import NonFinite, StepMeans


def scalar(value):
    return torch.tensor(float(value))


def test_interval_and_epoch_means():
    means = StepMeans()
    for step in range(1, 6):
        means.add(step, {"loss": scalar(step)}, {"angle": scalar(10 * step)})
        if step == 2:
            assert means.fetch() is None
            assert means.take("interval") == {"loss": 1.5, "angle": 15}
    assert means.fetch() is None
    assert means.take("interval") == {"loss": 4, "angle": 40}
    assert means.take("interval") == {}
    assert means.take("epoch") == {"loss": 3, "angle": 30}
    assert means.fetch() is None


def test_state_goes_on():
    a, b = StepMeans(), StepMeans()
    for means in (a, b):
        for step in (1, 2):
            means.add(step, {"loss": scalar(0.1 * step)}, {})
        assert means.fetch() is None
    restored = StepMeans()
    restored.load_state(json.loads(json.dumps(a.state())))
    for means in (b, restored):
        means.add(3, {"loss": scalar(0.7)}, {})
        assert means.fetch() is None
    assert restored.take("interval") == b.take("interval")
    assert restored.take("epoch") == b.take("epoch")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_found(value):
    means = StepMeans()
    means.add(4, {"loss": scalar(1), "kl": scalar(1)}, {"angle": scalar(math.nan)})
    means.add(5, {"loss": scalar(2), "kl": scalar(value)}, {"angle": scalar(1)})
    means.add(6, {"loss": scalar(math.nan), "kl": scalar(value)}, {"angle": scalar(1)})
    found = means.fetch()
    assert isinstance(found, NonFinite)
    assert found.step == 5
    assert list(found.values) == ["kl"]
    assert str(found) == f"kl = {value} at step 5"


def test_one_transfer(monkeypatch):
    calls = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: calls.append(1) or original(t))
    means = StepMeans()
    for step in range(50):
        means.add(step, {"loss": scalar(1), "kl": scalar(2)}, {})
    means.fetch()
    assert calls == [1]


def test_names_must_stay():
    means = StepMeans()
    means.add(1, {"loss": scalar(1)}, {})
    with pytest.raises(ValueError, match=r"\['loss', 'kl'\] at step 2"):
        means.add(2, {"loss": scalar(1), "kl": scalar(1)}, {})
    with pytest.raises(ValueError, match="twice"):
        StepMeans().add(1, {"loss": scalar(1)}, {"loss": scalar(1)})


def test_half_precision_and_gradients_are_dropped():
    means = StepMeans()
    loss = torch.tensor(1.5, requires_grad=True)
    means.add(1, {"loss": loss, "kl": torch.tensor(2.0, dtype=torch.bfloat16)}, {})
    assert means.fetch() is None
    assert means.take("interval") == {"loss": 1.5, "kl": 2.0}
