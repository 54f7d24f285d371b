"""Figures of the representation, and the alarm."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from vje_pyro.method import ProbabilisticMethod
from vje_pyro.training.collapse import CollapseAlarm, Thresholds, collapse_alarms
from vje_pyro.training.monitors import (
    Monitor,
    NoMonitor,
    active_units,
    embedding_std,
    monitor_split,
    rankme,
)

HEALTHY = {
    "rankme": 30.0,
    "embedding_std": 0.8,
    "active_units": 0.9,
    "kl": 40.0,
    "clamp_fraction": 0.0,
}


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_rankme_by_hand():
    x = torch.diag(torch.tensor([3.0, 1.0]))
    p = [0.75, 0.25]
    entropy = -sum((q + 1e-7) * math.log(q + 1e-7) for q in p)
    assert rankme(x) == pytest.approx(math.exp(entropy), rel=1e-9)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_rankme_is_that_of_the_singular_values(shape):
    x = noise(*shape)
    s = torch.linalg.svdvals(x.double())
    p = s / s.sum() + 1e-7
    assert rankme(x) == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-6)


def test_rankme_extremes():
    assert rankme(noise(5000, 16)) == pytest.approx(16, rel=0.01)
    assert rankme(noise(100, 1) * noise(1, 16)) == pytest.approx(1, abs=1e-3)
    assert math.isnan(rankme(torch.tensor([[1.0, math.nan]])))
    assert math.isfinite(rankme(torch.zeros(4, 4)))


def test_embedding_std():
    assert embedding_std(noise(5000, 64)) == pytest.approx(1, abs=0.02)
    assert embedding_std(torch.ones(10, 4)) == pytest.approx(0, abs=1e-6)
    assert embedding_std(1000 * noise(50, 4)) == pytest.approx(embedding_std(noise(50, 4)))


def test_active_units():
    means = noise(1000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert active_units(means) == 0.5
    assert active_units(means, threshold=1e-4) == 0.75


def test_monitor_split_is_disjoint_and_seeded():
    bank, queries = monitor_split(100, bank=50, queries=30, seed=1)
    assert (len(bank), len(queries)) == (50, 20)
    assert not set(bank.tolist()) & set(queries.tolist())
    again, _ = monitor_split(100, bank=50, queries=30, seed=1)
    other, _ = monitor_split(100, bank=50, queries=30, seed=2)
    assert torch.equal(bank, again)
    assert not torch.equal(bank, other)


@pytest.mark.parametrize("sizes", [(4, 1, 1), (10, 0, 1), (10, 1, 0)])
def test_monitor_split_refuses(sizes):
    with pytest.raises(ValueError, match="at least 5 images"):
        monitor_split(*sizes, seed=0)


def mean_score(bank_x, bank_y, query_x, query_y):
    """Depends on every argument."""
    return float(bank_x.sum() + 2 * query_x.sum() + 3 * bank_y.sum() + 4 * query_y.sum())


def test_monitor_measures_and_leaves_no_trace(toy):
    method = toy.make_method()
    method.train()
    method.norm.eval()  # a frozen part must stay frozen
    before = {name: value.clone() for name, value in method.state_dict().items()}
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=mean_score, bank=40, queries=10)
    figures = monitor.measure(method)
    assert set(figures) == {"knn", "rankme", "embedding_std"}
    assert 1 <= figures["rankme"] <= 4
    assert toy.same_state(before, method.state_dict())
    assert method.training
    assert method.conv.training
    assert not method.norm.training
    assert monitor.measure(method) == figures


def test_monitor_restores_modes_after_an_error(toy):
    method = toy.make_method().train()

    def fail(*_):
        raise RuntimeError("score")

    with pytest.raises(RuntimeError, match="score"):
        Monitor(toy.ToyLoader(), toy.normalize, score=fail).measure(method)
    assert method.norm.training


def test_monitor_feeds_bank_and_queries_with_their_labels(toy):
    data = toy.ToyLoader()
    seen = {}

    def score(bank_x, bank_y, query_x, query_y):
        seen.update(bank_x=bank_x, bank_y=bank_y, query_x=query_x, query_y=query_y)
        return 0.5

    method = toy.make_method().eval()
    monitor = Monitor(data, toy.normalize, score=score, bank=40, queries=10, batch_size=7)
    assert monitor.scores
    assert monitor.measure(method)["knn"] == 0.5
    with torch.no_grad():
        expected = method.embed(toy.normalize(data.images[monitor.queries]))
    torch.testing.assert_close(seen["query_x"], expected)
    assert torch.equal(seen["query_y"], data.labels[monitor.queries])
    assert torch.equal(seen["bank_y"], data.labels[monitor.bank])
    assert len(seen["bank_x"]) == 40


def test_unlabelled_data_has_no_knn(toy):
    data = toy.ToyLoader()
    unlabelled = SimpleNamespace(images=data.images, labels=torch.full_like(data.labels, -1))
    monitor = Monitor(unlabelled, toy.normalize, score=mean_score)
    assert not monitor.scores
    assert "knn" not in monitor.measure(toy.make_method())
    assert not Monitor(data, toy.normalize).scores


def test_active_units_of_a_probabilistic_method(toy):
    scale = torch.tensor([1e4, 0.0, 0.0, 0.0])

    class Probabilistic(toy.ToyMethod, ProbabilisticMethod):
        infer = log_likelihood = None

        def posterior(self, images):
            return SimpleNamespace(mean=self.embed(images) * scale, stddev=scale)

    method = Probabilistic()
    assert Monitor(toy.ToyLoader(), toy.normalize).measure(method)["active_units"] == 0.25


@pytest.mark.parametrize("knob", [{"bank": 30}, {"queries": 5}, {"seed": 1}])
def test_monitor_knobs_change_the_figures(toy, knob):
    method = toy.make_method()
    plain = {"bank": 40, "queries": 10, "seed": 0, "score": mean_score}
    a = Monitor(toy.ToyLoader(), toy.normalize, **plain).measure(method)
    b = Monitor(toy.ToyLoader(), toy.normalize, **plain | knob).measure(method)
    assert a["knn"] != b["knn"]


def test_batch_size_of_the_monitor(toy):
    sizes = []

    def normalize(images):
        sizes.append(len(images))
        return toy.normalize(images)

    Monitor(toy.ToyLoader(), normalize, batch_size=20).measure(toy.make_method())
    assert max(sizes) == 20


@pytest.mark.parametrize("name", ["every_epochs", "batch_size"])
def test_monitor_refuses(toy, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Monitor(toy.ToyLoader(), toy.normalize, **{name: 0})


def test_no_monitor(toy):
    monitor = NoMonitor(toy.ToyLoader(), toy.normalize, score=mean_score, every_epochs=5)
    assert (monitor.scores, monitor.measure(toy.make_method())) == (False, {})
    assert monitor.check({"rankme": 0.0}, 1, 64) == []


def test_healthy_figures_ring_nothing():
    assert collapse_alarms(HEALTHY, 64, 1000) == []
    assert collapse_alarms({}, 64, 1000) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rankme", 1.2),
        ("embedding_std", 0.01),
        ("active_units", 0.05),
        ("kl", 0.1),
        ("clamp_fraction", 0.9),
        ("kl", math.nan),
        ("clamp_fraction", math.nan),
    ],
)
def test_each_figure_rings_and_each_threshold_matters(name, value):
    figures = HEALTHY | {name: value}
    (alarm,) = collapse_alarms(figures, 64, 1000)
    assert alarm.startswith(name)
    assert collapse_alarms(figures, 64, 1000, Thresholds(**{name: None})) == []
    if not math.isnan(value):
        lax = 1.0 if name == "clamp_fraction" else 0.0
        assert collapse_alarms(figures, 64, 1000, Thresholds(**{name: lax})) == []


def test_rank_is_judged_by_the_smaller_of_images_and_features():
    assert collapse_alarms({"rankme": 5.0}, 1000, 1000)
    assert not collapse_alarms({"rankme": 5.0}, 1000, 100)


def test_alarm_is_loud_once_per_change(caplog):
    alarm = CollapseAlarm(grace_epochs=1)
    bad, worse = HEALTHY | {"rankme": 1.0}, HEALTHY | {"rankme": 1.0, "kl": 0.0}
    counts = []
    with caplog.at_level(logging.WARNING):
        for epoch, figures in enumerate([bad, HEALTHY, bad, bad, worse, HEALTHY, HEALTHY], start=1):
            alarm.check(figures, epoch, 64, 1000)
            counts.append(len(caplog.records))
    assert counts == [0, 0, 1, 1, 2, 3, 3]
    assert "COLLAPSE ALARM after epoch 3" in caplog.text
    assert "rankme" in caplog.text
    assert "alarm over" in caplog.records[-1].message


def test_alarm_refuses_an_unknown_reaction():
    with pytest.raises(ValueError, match="'warn' or 'stop', got 'panic'"):
        CollapseAlarm(on_collapse="panic")
