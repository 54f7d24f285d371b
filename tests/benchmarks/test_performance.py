"""The timings in a tiny version, with known times in place of a clock's."""

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as script
from benchmarks import laws, parts, throughput, timing, training_step
from benchmarks import views as views_of
from studies import benchmark_tables, tables
from vje_pyro.inference import SlicedEppsPulley

TINY = ("--blocks", "2", "--batch", "8", "--width", "16", "--image-sizes", "8")
SECONDS = {
    "vje": 2, "lightly_simsiam": 3, "lightly_vicreg": 4, "32-true": 2, "step": 2, "none": 4,
    "sigreg": 5, "sliced_wasserstein": 5, "variance_covariance": 5, "byol": 4, "kornia": 3,
    "torchvision_per_image": 9, "law": 3,
}  # fmt: skip


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The figures of a part, everything of which was called once and took the seconds above."""

    def in_turns(runs, blocks, *_):
        for run in runs.values():
            run()
        return {name: [float(SECONDS.get(name, 1))] * blocks for name in runs}

    for module in (parts, laws, views_of):
        monkeypatch.setattr(module, "in_turns", in_turns)
    monkeypatch.setattr(parts, "GROWTH", {"batch_4": (8, 16, 4), "dim_8": (8, 8, 4)})

    def figures(part, *more):
        script.main([part, *more, "--out", str(tmp_path / "benchmarks"), *TINY])
        content = json.loads((tmp_path / "benchmarks" / f"{part}-cpu.json").read_text())
        assert content["settings"]["batch"] == 8
        assert content["versions"]["torch"]
        for values in content["figures"].values():
            assert 0 <= values["low"] <= values["value"] <= values["high"]
        return {name: values["value"] for name, values in content["figures"].items()}

    figures.results = tmp_path
    return figures


def test_peers(measured):
    pytest.importorskip("lightly", reason="lightly is an extra")
    figures = measured("peers")
    assert [figures[f"8px_{name}_to_bound"] for name in benchmark_tables.CONTENDERS] == [2, 3, 4]
    assert figures["8px_vje_speed_over_lightly_simsiam"] == 1.5
    rows = tables.TABLES["docs/explanation/performance.md", "peers"](measured.results).splitlines()
    assert rows[3] == "| 8 | lightly, SimSiam | 3.00 [3.00, 3.00] | 1.50 [1.50, 1.50] |"
    shares = [value for name, value in figures.items() if name.startswith("8px_share_")]
    assert len(shares) == len(benchmark_tables.PIECES)
    assert len(benchmark_tables.split_table(measured.results).splitlines()) == 2 + len(shares)


def test_aggregate_terms(measured):
    figures = measured("aggregate")
    for name in parts.AGGREGATES:
        assert figures[f"8px_{name}_alone_to_none"] == 0.25
        assert figures[f"8px_{name}_to_none"] == 1.25
    row = tables.TABLES["docs/appendix/performance.md", "aggregate"](measured.results).splitlines()[
        2
    ]
    assert row.startswith("| 8 | `sigreg` | 1.250 [1.250, 1.250] | 25.00 [")


def test_a_step_with_the_term_has_its_loss():
    setup, losses = parts.small(8, 16), []
    for weight in (0.0, 1.0):
        term = SlicedEppsPulley(weight=weight)
        device = torch.device("cpu")
        step = training_step.TrainingStep(setup, 8, device, num_images=16, aggregate=term)
        torch.manual_seed(0)
        losses.append(step.method.loss(step.ready).total)
    assert losses[1] > losses[0]


def test_methods_of_the_study(measured):
    pytest.importorskip("lightly", reason="lightly is an extra")
    figures = measured("methods", "--methods", "vje", "byol")
    assert figures == {"8px_bound_ms": 1000, "8px_vje_to_bound": 2, "8px_byol_to_bound": 4}


def test_other_parts(measured):
    assert measured("precision")["8px_bfloat16_speed"] == 2
    assert set(measured("growth")) == {
        "batch_4_ms_per_image", "batch_4_to_bound", "dim_8_ms_per_image", "dim_8_to_bound",
    }  # fmt: skip
    assert "| dimension D | 8 | 2.00 [" in benchmark_tables.growth_table(measured.results)
    assert measured("scoring")["log_likelihood_16_to_embed"] == 1
    assert measured("pyro")["8px_transfers"] == 0
    assert measured("views")["torchvision_per_image_to_ours"] == 9


def test_a_law_that_is_scored_in_part(measured, monkeypatch):
    monkeypatch.setattr(laws, "BATCH", 64)
    monkeypatch.setattr(laws, "DIM", 8)
    names = "spherical_student_t_normalized", "power_spherical"
    monkeypatch.setattr(laws, "DIRECTIONS", {name: laws.DIRECTIONS[name] for name in names})
    figures = measured("distributions")
    assert figures[f"{names[0]}_log_prob_to_normal"] == 6
    assert figures[f"{names[0]}_sample_to_normal"] == 3
    assert figures[f"{names[1]}_log_prob_to_normal"] == 3
    assert "radial_gamma_log_prob_and_gradient_to_normal" in figures


def test_who_is_first_changes_and_ratios_are_of_neighbours(monkeypatch):
    called, clock = [], iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    runs = {name: lambda name=name: called.append(name) for name in "ab"}
    times = timing.in_turns(runs, 2)
    assert called == ["a", "b", "a", "b", "b", "a"]
    assert timing.beside(times, "a", "b").value == 1


@pytest.mark.parametrize("mode", ["eager", "compiled", "cudnn-benchmark"])
def test_throughput(mode):
    result = throughput.throughput("resnet18", f"{mode}-256", torch.device("cpu"))
    assert result.figures["ratio_to_bound"].value > 0
    assert result.settings["mode"] == mode
    assert result.details["synchronisations_per_step"] >= 0


def test_a_batch_that_does_not_fit_is_said(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(throughput, "TrainingStep", full)
    result = throughput.throughput("resnet50", "eager-256", torch.device("cpu"))
    assert result.figures == {}
    assert result.details["out_of_memory"]


def test_synchronisations_are_counted_as_cuda_warns_of_them(monkeypatch):
    modes = []
    fake = SimpleNamespace(synchronize=lambda: None, set_sync_debug_mode=modes.append)
    monkeypatch.setattr(torch, "cuda", fake)

    def waits():
        timing.warnings.warn("called a synchronizing CUDA operation (at x.cpp:1)", stacklevel=2)
        timing.warnings.warn("something else", stacklevel=2)

    assert timing.count_synchronisations([waits, waits, lambda: None]) == 2
    assert modes == ["warn", "default"]


def test_the_stopwatch_adds_up_pieces_of_one_name(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 3.5])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(now))
    watch = timing.Stopwatch(torch.device("cpu"))
    for name in ("views", "encoder", "views"):
        watch.mark(name)
    assert watch.milliseconds() == {"views": 1500.0, "encoder": 2000.0}
