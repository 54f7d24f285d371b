"""The pieces a report is made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from vje_pyro.errors import CheckpointError
from vje_pyro.report import gallery, plots, projection, run_summary
from vje_pyro.report.collect import measure, read_log
from vje_pyro.report.embeddings import has_standard_prior, show_scale


def test_log_that_was_cut_off_in_a_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("step,elbo,kl\n10,1.5,\n20,2.5,nan\n30,3")
    log = read_log(path)
    assert log is not None
    assert log.columns["step"].tolist() == [10, 20, 30]
    assert log.last("elbo") == 3
    assert log.get("kl") is None
    assert log.get("absent") is None


@pytest.mark.parametrize(
    ("content", "needed", "message"),
    [("step\nx\n", (), "step.0: "), ("step\n1\n", ("time",), r"it has no columns \['time'\]")],
)
def test_damaged_log_is_refused(tmp_path: Path, content: str, needed: Any, message: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=rf"steps\.csv is damaged: .*{message}"):
        read_log(path, needed)


@pytest.mark.parametrize("content", [None, "", "step,elbo\n"])
def test_log_without_rows_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "steps.csv"
    if content is not None:
        path.write_text(content)
    assert read_log(path) is None


def test_sample_is_of_the_wanted_size_and_the_same_each_time(full: Any) -> None:
    first, second = (measure(full, ("nothing", "train"), 100) for _ in range(2))
    assert (first.name, len(first), first.total) == ("train", 100, 1400)
    np.testing.assert_array_equal(first.indices, second.indices)
    whole = measure(full, ("train",), 10_000)
    np.testing.assert_allclose(whole.embeddings[first.indices], first.embeddings, atol=1e-6)
    assert torch.equal(first.pictures([7])[0], full.source.split("train").images[first.indices[7]])


def test_entropy_is_that_of_a_gaussian() -> None:
    scale = torch.rand(5, 7) + 0.1
    expected = torch.distributions.Normal(torch.zeros(5, 7), scale).entropy().sum(1)
    np.testing.assert_allclose(gallery.entropy(scale.numpy()), expected, rtol=1e-5)


def test_extremes_are_ordered_by_entropy(full: Any) -> None:
    certain, uncertain = gallery.extremes(measure(full, ("test",), 1000))
    low, high = ([float(p.note) for p in pictures] for pictures in (certain, uncertain))
    assert low == sorted(low)
    assert high == sorted(high, reverse=True)
    assert low[-1] < high[-1]


def test_neighbours_are_the_most_similar_and_never_the_query_itself(full: Any) -> None:
    train = measure(full, ("train",), 300)
    rows = np.array([3, 40])
    found = gallery.neighbours(train, train, rows)
    unit = train.embeddings / np.linalg.norm(train.embeddings, axis=1, keepdims=True)
    for row, near in zip(rows, found, strict=True):
        expected = np.sort(np.delete(unit @ unit[row], row))[::-1][:8]
        notes = [float(p.note) for p in near.found]
        np.testing.assert_allclose(notes, expected, atol=6e-4)


def test_agreement_counts_neighbours_of_the_same_class(full: Any) -> None:
    test, train = measure(full, ("test",), 50), measure(full, ("train",), 400)
    unit = [s.embeddings / np.linalg.norm(s.embeddings, axis=1)[:, None] for s in (test, train)]
    near = np.argsort(-(unit[0] @ unit[1].T), axis=1)[:, :8]
    expected = (train.labels[near] == test.labels[:, None]).mean()
    assert gallery.agreement(test, train) == pytest.approx(expected)


def test_queries_spread_over_the_classes(full: Any) -> None:
    sample = measure(full, ("test",), 1000)
    assert sample.labels[gallery.choose_queries(sample)].tolist() == list(range(10))
    assert len(gallery.choose_queries(sample, 25)) == 25


def test_shares_and_participation_ratio() -> None:
    x = np.random.default_rng(0).normal(size=(4000, 6))
    assert projection.participation_ratio(projection.shares_of_variance(x)) == pytest.approx(
        6, abs=0.1
    )
    line = np.outer(np.arange(10.0), np.ones(6))
    shares = projection.shares_of_variance(line)
    assert projection.participation_ratio(shares) == pytest.approx(1)
    assert shares.sum() == pytest.approx(1)


def test_map_keeps_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 8)), rng.normal(size=(60, 8)) + 20])
    layout = projection.project(x)
    assert layout.kind == "t-SNE"
    centres = layout.points[:60].mean(0), layout.points[60:].mean(0)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * layout.points[:60].std()
    assert len(projection.project(x, limit=55).rows) == 55
    few = projection.project(x[40:80])
    assert (few.kind, few.components) == ("PCA", 2)
    assert few.explained > 0.9


def test_points_beyond_the_axis_are_announced() -> None:
    steps = np.arange(100.0)
    values = np.sin(steps)
    calm = plots.curve(steps, values, x_label="step", y_label="nats")
    assert "beyond the axis" not in calm
    values[0] = -5000
    loud = plots.curve(steps, values, x_label="step", y_label="nats")
    assert "1 point lies beyond the axis" in loud
    assert "-5e+03" in loud


def test_long_curve_is_thinned_with_its_range() -> None:
    steps = np.arange(20_000.0)
    svg = plots.curve(steps, np.sin(steps), x_label="step", y_label="nats")
    assert len(svg) < 120_000


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_constant_values_are_drawn(value: float) -> None:
    for count in (1, 50):
        steps, values = np.arange(float(count)), np.full(count, value)
        assert "<svg" in plots.curve(steps, values, x_label="step", y_label="nats")
        assert "prior" in plots.histogram(values, "σ", reference=(1.0, "prior"))


def test_alarm_column_is_text(tmp_path: Path, log_alarm: Callable[..., None]) -> None:
    log_alarm(tmp_path, alarm="low, very low", epoch=2)
    log = read_log(tmp_path / "logs" / "epochs.csv")
    assert log is not None
    assert log.alarms[:3] == ("", "low, very low", "")
    assert "alarms" not in log.columns


def test_command_is_shown_as_it_can_be_typed() -> None:
    assert (
        run_summary.command({"command": ["/opt/bin/vje", "train", "a=b c"]}) == "vje train 'a=b c'"
    )
    assert run_summary.command({"command": "vje train"}) == "vje train"
    assert run_summary.command({"command": []}) == run_summary.command({}) == ""


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (dist.Normal(torch.zeros(4), 1.0).to_event(1), True),
        (dist.Normal(torch.zeros(4), 2.0).to_event(1), False),
        (dist.StudentT(5.0, torch.zeros(4), 1.0).to_event(1), False),
        (None, False),
    ],
    ids=["standard", "scaled", "heavy-tailed", "none"],
)
def test_kl_is_shown_for_the_standard_prior_only(
    full: Any, prior: Any, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full.method, "prior_distribution", lambda: prior)
    assert has_standard_prior(torch.nn.Identity() if prior is None else full.method) is expected
    sample = measure(full, ("train",), 50)
    shown = show_scale(sample, expected)
    assert bool(shown["kl"]) is expected
    assert ("prior σ = 1" in shown["histogram"]) is expected
