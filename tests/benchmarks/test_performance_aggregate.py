"""The cost of the aggregate terms in a tiny version, and the table made from it."""

import json

import performance
import performance_table
import torch
from training_step import TrainingStep

from vje_pyro.inference import SlicedEppsPulley


def test_each_term_is_measured_beside_the_step_without_and_shown(
    tmp_path, monkeypatch, known_times
):
    made, step = [], TrainingStep.__init__

    def watched(self, *arguments, **settings):
        step(self, *arguments, **settings)
        made.append(self.method)

    monkeypatch.setattr(TrainingStep, "__init__", watched)
    seconds = {"none": 4} | dict.fromkeys(performance.AGGREGATES, 5)
    known_times(performance, seconds)
    tiny = ["--blocks", "2", "--batch", "8", "--width", "16", "--image-sizes", "8"]
    performance.main(["aggregate", "--out", str(tmp_path), *tiny])
    terms = [type(method.aggregate).__name__ for method in made]
    assert terms == ["SlicedEppsPulley", "SlicedWasserstein", "VarianceCovariance", "NoneType"]

    figures = json.loads((tmp_path / "aggregate-cpu.json").read_text())["figures"]
    assert figures.pop("8px_none_ms")["value"] > 0
    assert len(figures) == 2 * len(performance.AGGREGATES)
    for name in performance.AGGREGATES:
        assert figures[f"8px_{name}_alone_to_none"]["value"] == 0.25
        assert figures[f"8px_{name}_to_none"]["value"] == 1.25

    assert performance_table.AGGREGATES == performance.AGGREGATES
    monkeypatch.setattr(performance_table, "RESULTS", tmp_path / "nowhere")
    assert performance_table.aggregate_table() == "Not run yet."
    monkeypatch.setattr(performance_table, "RESULTS", tmp_path)
    rows = performance_table.aggregate_table().splitlines()
    assert len(rows) == 2 + len(performance.AGGREGATES)
    value = figures["8px_sigreg_to_none"]["value"]
    assert rows[2].startswith(f"| 8 | `sigreg` | {value:.3f} [")


def test_a_step_with_the_term_has_its_loss():
    setup, losses = performance.small(8, 16), []
    for weight in (0.0, 1.0):
        term = SlicedEppsPulley(weight=weight)
        step = TrainingStep(setup, 8, torch.device("cpu"), num_images=16, aggregate=term)
        torch.manual_seed(0)
        losses.append(step.method.loss(step.ready).total)
    assert losses[1] > losses[0]
