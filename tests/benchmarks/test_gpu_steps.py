"""Every step of the GPU suite in its tiny version: a valid result file, and going on when cut."""

import dataclasses
import json
import signal
import warnings
from types import SimpleNamespace

import gpu_suite
import pytest
import torch
from gpu import cifar10, correctness, studies, throughput
from gpu.context import Context
from gpu.report import SCHEMA, report_path
from gpu.steps import STEPS
from gpu.stopwatch import Stopwatch
from hydra import compose, initialize_config_dir
from training_step import count_synchronisations
from vje_pyro.experiments.pretrain import CONFIG_DIR

from vje_pyro.errors import DataError
from vje_pyro.evaluation import Result
from vje_pyro.training.step import Stepper

SLOW = ("methods", "recipe", "sweep", "throughput-resnet50", "cifar10-vje-200",
        "cifar10-byol-100", "cifar10-vicreg-100")  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """One root for all steps: detection takes the model of an earlier step."""
    return Context(root := tmp_path_factory.mktemp("gpu"), root / "data", tiny=True, workers=1)


@pytest.fixture
def _short(monkeypatch):
    """A few of the paths and modes: each is one more compilation."""
    kept = ("float32", "bf16-channels-last-compiled")
    monkeypatch.setattr(correctness, "PATHS", {name: correctness.PATHS[name] for name in kept})
    monkeypatch.setattr(throughput, "MODES", ("eager", "compiled"))
    monkeypatch.setattr(throughput, "TINY", dataclasses.replace(throughput.TINY, batch_sizes=(8,)))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in STEPS]
)
@pytest.mark.usefixtures("_short")
def test_a_step_writes_a_valid_result(context, name):
    if any(method in name for method in ("simsiam", "byol", "vicreg")):
        pytest.importorskip("lightly", reason="lightly is an extra")
    assert gpu_suite.run_here(context, STEPS[name]) == 0
    text = report_path(context, name).read_text(encoding="utf-8")
    report = json.loads(text)
    assert (report["schema"], report["step"], report["tiny"]) == (SCHEMA, name, True)
    assert {"settings", "seeds", "details", "device", "versions", "commit"} <= report.keys()
    assert report["figures"]
    for figure in report["figures"].values():
        assert figure["low"] <= figure["value"] <= figure["high"] or "bootstrap" in str(figure)
        assert figure["interval"]
    assert report["passes"] is (True if name == "correctness" else None)
    assert not report["details"].get("failed")
    assert str(context.root) not in text


def test_all_figures_of_a_training_are_there(context):
    if not report_path(context, "cifar10-vje-100").exists():
        pytest.skip("its step has not been run")
    report = json.loads(report_path(context, "cifar10-vje-100").read_text())
    figures = report["figures"]
    assert figures["knn-v1_accuracy"]["n"] == 120
    assert figures["training-v1_step_ms"]["value"] > 0
    (path,) = (context.results / "cifar10-vje-100").glob("*knn-v1.json")
    assert Result.read(path).config["method"]["_target_"].endswith(".VJE")


class TestCut:
    """The time ends in the middle."""

    def test_a_training_goes_on_from_its_checkpoint(self, tmp_path, monkeypatch):
        context = Context(tmp_path, tiny=True)
        step, taken = Stepper.step, []

        def cut(self, views):
            taken.append(1)
            if len(taken) == 5:
                signal.raise_signal(signal.SIGTERM)
            return step(self, views)

        monkeypatch.setattr(Stepper, "step", cut)
        vje = STEPS["cifar10-vje-100"]
        assert gpu_suite.run_here(context, vje) == 128 + signal.SIGTERM
        assert not report_path(context, vje.name).exists()
        assert gpu_suite.run_here(context, vje) == 0
        assert len(taken) == 8  # two epochs of four steps, none of them twice
        run = json.loads((context.runs / vje.name / "seed0" / "run.json").read_text())
        assert [resumed["step"] for resumed in run["resumed"]] == [5]
        assert report_path(context, vje.name).exists()

    def test_finished_parts_are_kept(self, tmp_path, monkeypatch):
        context, measured = Context(tmp_path, tiny=True), []

        def measure(sweep, mode, batch, context):
            if len(measured) == 2:
                measured.append("cut")
                raise KeyboardInterrupt
            measured.append((mode, batch))
            return {"figures": {}, "details": {}}

        monkeypatch.setattr(throughput, "_measure", measure)
        step = STEPS["throughput-resnet18"]
        with pytest.raises(KeyboardInterrupt):
            gpu_suite.run_here(context, step)
        assert not report_path(context, step.name).exists()
        assert gpu_suite.run_here(context, step) == 0
        assert measured == [
            ("eager", 8), ("eager", 16), "cut",
            ("cudnn-benchmark", 8), ("compiled", 8), ("compiled", 16),
        ]  # fmt: skip

    def test_a_class_that_is_scored_is_not_trained_again(self, context, monkeypatch):
        if not (context.runs / "one-class" / "class0" / "scores.npz").exists():
            pytest.skip("its step has not been run")
        monkeypatch.setattr(Stepper, "step", lambda *_: pytest.fail("trained again"))
        assert gpu_suite.run_here(context, STEPS["one-class"]) == 0


class TestCorrectness:
    """The comparison with float64 can fail."""

    @pytest.fixture
    def tiny(self, tmp_path, monkeypatch):
        paths = {"float32": correctness.PATHS["float32"]}
        monkeypatch.setattr(correctness, "PATHS", paths)
        monkeypatch.setattr(correctness, "SEEDS", (0, 1))
        return Context(tmp_path, tiny=True)

    def test_a_wrong_path_is_found(self, tiny, monkeypatch):
        prepared = correctness._prepared

        def wrong(*arguments):
            method = prepared(*arguments)
            with torch.no_grad():
                method.encoder.stem[0].weight.mul_(1.5)
                method.inference.network[0].weight.mul_(1.1)
            return method

        monkeypatch.setattr(correctness, "_prepared", wrong)
        outcome = correctness.run(tiny)
        assert outcome.passes is False
        assert "gradient_error" in outcome.details["failures"]["float32"]

    def test_a_path_that_cannot_run_is_a_finding(self, tiny, monkeypatch):
        def broken(*_):
            raise RuntimeError("no such kernel")

        monkeypatch.setattr(correctness, "_prepared", broken)
        outcome = correctness.run(tiny)
        assert outcome.passes is False
        assert outcome.details["failures"] == {"float32": "RuntimeError: no such kernel"}

    def test_float32_is_near_and_the_noise_is_the_same(self, tiny):
        outcome = correctness.run(tiny)
        assert outcome.passes
        assert outcome.figures["float32_gradient_error"].high < 1e-5
        assert outcome.figures["float32_cosine"].low > 1 - 1e-9


def test_a_batch_that_does_not_fit_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(throughput, "TrainingStep", full)
    outcome = throughput.run(Context(tmp_path, tiny=True), "throughput-x", throughput.RESNET18)
    assert outcome.figures == {}
    assert all(part["out_of_memory"] for part in outcome.details.values())


def test_synchronisations_are_counted_as_cuda_warns_of_them(monkeypatch):
    modes = []
    fake = SimpleNamespace(synchronize=lambda: None, set_sync_debug_mode=modes.append)
    monkeypatch.setattr(torch, "cuda", fake)

    def waits():
        warnings.warn("called a synchronizing CUDA operation (at x.cpp:1)", stacklevel=2)
        warnings.warn("something else", stacklevel=2)

    assert count_synchronisations([waits, waits, lambda: None]) == 2
    assert modes == ["warn", "default"]


def test_the_stopwatch_adds_up_pieces_of_one_name(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 3.5])
    monkeypatch.setattr("gpu.stopwatch.time.perf_counter", lambda: next(now))
    watch = Stopwatch(torch.device("cpu"))
    for name in ("views", "encoder", "views"):
        watch.mark(name)
    assert watch.milliseconds() == {"views": 1500.0, "encoder": 2000.0}


def test_a_method_gets_the_rate_that_the_study_found(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        cifar10, "run_seed", lambda *arguments, **_: asked.append((arguments[1], arguments[3]))
    )
    context = Context(tmp_path)
    cifar10._trained(context, "vje", 100)
    monkeypatch.setattr(
        cifar10, "best_rate", lambda _, method: {"vje-recommended": 2e-3, "byol": 5e-4}[method]
    )
    cifar10._trained(context, "vje", 100)
    cifar10._trained(context, "byol", 200)
    rates = [[o for o in overrides if "optimizer.lr" in o] for _, overrides in asked]
    assert rates == [[], ["optimizer.lr=0.004"], ["optimizer.lr=0.001"]]
    assert asked[2][0] == "gpu/cifar10-byol-200"
    assert "training.epochs=200" in asked[2][1]
    assert studies.best_rate(context, "vje") is None


class TestFullSize:
    """What the CPU cannot train, at least is a configuration."""

    @staticmethod
    def compose(*overrides):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return compose("train", [*overrides, "run_dir=none"])

    @pytest.mark.parametrize("method", list(cifar10.METHODS))
    def test_cifar10(self, tmp_path, monkeypatch, method):
        asked = []
        monkeypatch.setattr(cifar10, "run_seed", lambda *arguments, **_: asked.append(arguments))
        cifar10._trained(Context(tmp_path, tmp_path / "there"), method, 100)
        ((experiment, _, seed, overrides, *_),) = asked
        config = self.compose(f"experiment={experiment}", f"seed={seed}", *overrides)
        assert config.training.epochs == 100
        assert config.encoder.name == "resnet18"
        assert config.data.root == str(tmp_path / "there")
        if method == "vje":  # the recommended one, not the plain
            assert config.method.aggregate is not None
            assert config.method.direction._target_.endswith(".PowerSpherical")

    def test_one_class(self, tmp_path, monkeypatch):
        asked = []

        def stop(*arguments):
            asked.append(arguments)
            raise DataError

        monkeypatch.setattr(cifar10, "train_one_class", stop)
        with pytest.raises(DataError):
            cifar10.one_class(Context(tmp_path))
        ((overrides, _, classes),) = asked
        assert self.compose("monitor=none", *overrides).encoder.name == "resnet18"
        assert classes == (0, 1, 2)

    def test_sweep(self, tmp_path, monkeypatch):
        commands = []
        monkeypatch.setattr(studies, "run_all", lambda found, workers: commands.extend(found))
        assert len(studies.sweep(Context(tmp_path)).details["failed"]) == len(studies.SWEEP) == 12
        dims, rates, betas = set(), set(), set()
        for command in commands:
            overrides = command[2 : command.index("--seeds")]
            config = self.compose("experiment=cifar10", *overrides)
            assert config.training.epochs == 30
            dims.add(config.encoder.widths[-1])
            rates.add(config.optimizer.lr)
            betas.add(config.method.beta)
        assert dims == {64, 128, 256, 512}
        assert rates == {5e-4, 1e-3, 2e-3, 4e-3, 8e-3}
        assert betas == {0.25, 0.5, 1, 2, 4}


@pytest.mark.parametrize("name", list(studies.SWEEP))
def test_the_sweep_changes_one_setting(name):
    assert len(studies.SWEEP[name]) == (name != "baseline")
