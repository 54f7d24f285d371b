"""What is missing is done, once; a tiny study of every protocol; the list of a GPU."""

import json
from pathlib import Path

import pytest
import torch
from made_up import record

from studies import __main__ as script
from studies import evaluations, fast_paths, runner, steps
from studies.outlier_choice import merits
from studies.store import Store
from studies.study import Study, Task
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.run import load

SIZE = [
    "experiment=digits", "training.epochs=1", "encoder.widths=[8,16]", "encoder.stem_width=8",
    "data.train_limit=250", "data.test_limit=100", "loader.batch_size=50",
    "guide.hidden_features=16", "monitor.bank=100", "monitor.queries=50",
]  # fmt: skip


def tiny(name, tmp_path, evaluate=None, search=None):
    """A study of which one variant is measured as given."""
    study = Study.read(name)
    return Study(name, study.variants, evaluate or study.evaluate, [3], study.overrides, {}, search)


@pytest.fixture
def place(tmp_path):
    return runner.Place(tmp_path, tmp_path / "data", overrides=tuple(SIZE))


class TestRun:
    """Which jobs are begun, and what becomes of them."""

    study = Study("x", {"a": {}, "b": {}}, {"encoder": ["knn-v1"]}, seeds=[0, 1])

    @pytest.fixture
    def begun(self, place, monkeypatch):
        """Jobs that were begun; all but those of b succeed at once, with their results."""
        jobs = []

        def run_all(commands, workers, seconds):
            codes = []
            for log, command in commands:
                variant, seed = command[5:7]
                jobs.append((variant, int(seed)))
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text("\n".join(f"line {number}" for number in range(100)))
                if variant == "a":
                    place.store.add("x", [record("a", "knn-v1", {}, int(seed))])
                codes.append(int(variant == "b"))
            return codes

        monkeypatch.setattr(runner, "run_all", run_all)
        return jobs

    def test_a_failure_is_shown_and_stops_no_other(self, place, begun, capsys):
        assert runner.run(place, self.study) == (False, 2)
        assert begun == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
        output = capsys.readouterr().out
        assert "x b, seed 1: failed" in output
        assert "line 99" in output
        assert "line 84" not in output

    def test_what_is_done_is_skipped(self, place, begun):
        place.store.add("x", [record("a", "knn-v1", {}, 1)])
        assert runner.run(place, self.study, ["a"]) == (True, 0)
        assert begun == [("a", 0)]

    def test_nothing_is_begun_without_time_to_stop(self, place, begun, capsys):
        assert runner.run(place, self.study, seconds=runner.GRACE) == (False, 0)
        assert begun == []
        assert "start it again to go on" in capsys.readouterr().out

    def test_a_job_is_told_what_the_run_was_told(self, place, monkeypatch):
        given, told = [], []
        monkeypatch.setattr(runner, "run_all", lambda jobs, *_: given.extend(jobs) or [0] * 1)
        study = Study.read("methods")
        monkeypatch.setattr(runner, "do", lambda *arguments: told.append(arguments))
        monkeypatch.setattr(
            runner, "missing", lambda *_: [] if given else [runner.Job("vje", 0, 5e-4, ())]
        )
        runner.run(place, study)
        ((log, command),) = given
        assert log.name == "rate-0.0005-seed0.log"
        assert script.main(command[3:]) == 0
        assert told == [(place, study, "vje", 0, 5e-4)]


def test_a_variant_that_is_not_there(place, capsys):
    assert script.main(["run", "ablation", "--only", "x", "--root", str(place.root)]) == 1
    assert "no variant 'x'" in capsys.readouterr().err


def test_results_of_a_gpu_lie_apart(tmp_path):
    place = runner.Place(tmp_path, device="cuda")
    assert place.store.folder == tmp_path / "docs" / "results" / "cuda"
    assert place.runs == tmp_path / "runs" / "cuda"


def test_a_file_is_added(tmp_path, capsys):
    made = record("x", "knn-v1", {"accuracy": 0.5}).result
    path = made.write(tmp_path / "knn-v1-encoder.json")
    where = ["--root", str(tmp_path)]
    assert script.main(["add", "ablation", "baseline", str(path), *where]) == 0
    assert script.main(["add", "ablation", "baseline", str(path), *where]) == 1
    assert "already" in capsys.readouterr().err
    assert script.main(["add", "ablation", "baseline", str(path), "--note", "again", *where]) == 0
    found = Store(tmp_path / "docs" / "results").read("ablation")
    assert [(r.variant, r.key[-1]) for r in found] == [("baseline", ""), ("baseline", "again")]
    assert found[0].result == made
    text = json.loads(path.read_text()) | {"schema_version": 9}
    path.write_text(json.dumps(text))
    assert script.main(["add", "ablation", "df-3", str(path), *where]) == 1
    assert "version 9" in capsys.readouterr().err


def test_a_tiny_variant_is_trained_measured_and_then_skipped(tmp_path, place):
    evaluate = {
        "encoder": ["knn-v1", "training-v1", "latent-v1", "knn-validation-v1"],
        "posterior-mean": ["knn-validation-v1"],
    }
    study = tiny("ablation", tmp_path, evaluate)
    runner.do(place, study, "beta-4", 3, None)
    found = {(r.key[1], r.key[2]): r.result for r in place.store.read("ablation")}
    assert len(found) == 5
    assert all(result.config["method"]["beta"] == 4 for result in found.values())
    assert 0.1 < found["knn-v1", "encoder"].figures["accuracy"].value < 1
    training = found["training-v1", "encoder"].figures
    assert 0 <= training["active_units"].value <= 1 < training["rankme"].value
    assert 0 < training["step_ms"].low <= training["step_ms"].value
    latent = found["latent-v1", "encoder"]
    assert latent.figures["kl"].value > 0
    assert latent.dataset == found["knn-v1", "encoder"].dataset
    validation = found["knn-validation-v1", "posterior-mean"]
    assert (validation.dataset["train"], validation.dataset["test"]) == (250, 100)
    assert "validation" in validation.dataset["name"]
    lines = "".join(path.read_text() for path in place.store.folder.iterdir())
    assert str(tmp_path) not in lines
    assert runner.missing(place, study, ["beta-4"]) == []


@pytest.mark.slow
def test_what_takes_minutes(tmp_path, place, monkeypatch):
    protocols = ["linear-v1", "uncertainty-v2", "diagnostics-v2", "outlier-choice-v1"]
    monkeypatch.setattr(evaluations, "HELDOUT", 50)
    monkeypatch.setattr(evaluations, "TRAIN", 50)
    study = tiny("ablation", tmp_path, {"encoder": protocols})
    runner.do(place, study, "beta-4", 3, None)
    found = {r.result.protocol: r.result for r in place.store.read("ablation")}
    assert list(found) == protocols
    assert set(found["diagnostics-v2"].details["checks"]) == set(evaluations.CHECKS)
    scores = merits(found["outlier-choice-v1"])
    assert 0 < scores["mahalanobis"]["merit"] < 1
    assert runner.missing(place, study, ["beta-4"]) == []


def test_a_search_takes_the_best_rate(tmp_path, place):
    search = {"rates": [1e-3], "beyond": {1e-3: 4e-3}}
    study = tiny("ablation", tmp_path, {"encoder": ["knn-v1"]}, search)
    for rate in (1e-3, 4e-3):
        runner.do(place, study, "df-3", 0, rate)
    found = place.store.read("ablation")
    assert [r.result.config["optimizer"]["lr"] for r in found] == [1e-3, 4e-3]
    assert {r.result.protocol for r in found} == {"rate-search-v1"}
    (job,) = runner.missing(place, study, ["df-3"])
    scores = [r.result.figures["accuracy"].value for r in found]
    assert job.rate == (4e-3 if scores[1] > scores[0] else 1e-3)
    assert job.seed == 3


def test_features_are_read_where_they_say(tmp_path, place):
    study = tiny("recipe", tmp_path, {"encoder": ["knn-validation-v1"]})
    runner.do(place, study, "centre", 3, None)
    run = load(place.runs / "recipe" / "centre" / "seed3")
    images = torch.randn(4, 1, 8, 8)
    names = ("encoder", "batch-norm", "posterior-mean")
    read = {n: evaluations.FEATURES[n](run.method, images) for n in names}
    assert torch.equal(read["encoder"], run.method.embed(images))
    assert torch.equal(read["batch-norm"], run.method.norm(read["encoder"]))
    assert torch.equal(read["posterior-mean"], run.method.posterior(images).mean)


class TestFastPaths:
    """The comparison with float64 can fail."""

    def run(self, *names):
        return list(fast_paths.fast_paths(names, torch.device("cpu")))

    def test_they_are_right(self):
        exact, rounded = self.run("float32", "bf16-channels-last")
        assert exact.details["passes"]
        assert rounded.details["passes"]
        assert exact.figures["gradient_error"].high < 1e-5
        assert exact.figures["cosine"].low > 1 - 1e-9

    @pytest.mark.slow
    def test_they_are_right_when_compiled(self):
        (result,) = self.run("bf16-channels-last-compiled")
        assert result.details["passes"]

    def test_a_wrong_one_is_found(self, monkeypatch):
        prepared = fast_paths._prepared

        def wrong(*arguments):
            method = prepared(*arguments)
            with torch.no_grad():
                method.encoder.stem[0].weight.mul_(1.5)
                method.inference.network[0].weight.mul_(1.1)
            return method

        monkeypatch.setattr(fast_paths, "_prepared", wrong)
        (result,) = self.run("float32")
        assert not result.details["passes"]
        assert "gradient_error" in result.details["error"]

    def test_one_that_cannot_run_is_a_finding(self, monkeypatch):
        def broken(*_):
            raise RuntimeError("no such kernel")

        monkeypatch.setattr(fast_paths, "_prepared", broken)
        (result,) = self.run("float32")
        assert result.details == {
            "name": "float32", "passes": False, "error": "RuntimeError: no such kernel",
        }  # fmt: skip

    def test_the_list_names_those_that_there_are(self):
        (listed,) = Study.read("correctness").evaluate["encoder"]
        assert listed == {fast_paths.PROTOCOL: list(fast_paths.PATHS)}


class TestSteps:
    """The list of a GPU."""

    @pytest.fixture
    def begun(self, monkeypatch):
        """Study, variants, seeds and workers of what was begun."""
        given = []

        def run(place, study, variants, seeds, workers, seconds):
            given.append((study.name, variants, seeds, workers))
            return True, 0

        monkeypatch.setattr(runner, "run", run)
        return given

    def test_what_comes_first(self, place, begun):
        assert steps.run_steps(place, 3600) == 0
        assert [name for name, *_ in begun][:6] == [
            "correctness", "throughput", "cifar10", "cifar10", "cifar10", "throughput",
        ]  # fmt: skip
        assert begun[2][1:] == (
            ["vje", "vje-plain", "vicreg", "simclr", "lejepa", "byol"], [0], 6,
        )  # fmt: skip
        assert begun[3][2] == [0, 1, 2]
        assert {"methods", "ablation", "recipe", "sweep"} <= {name for name, *_ in begun[6:]}
        assert "cifar100" not in {name for name, *_ in begun}  # its data are not there
        (place.data_root / "cifar-100-python").mkdir(parents=True)
        begun.clear()
        steps.run_steps(place, 3600)
        assert begun[5][0] == "cifar100"

    def test_what_is_done_is_skipped_and_what_does_not_fit_left(self, place, begun, capsys):
        made = (
            record("resnet18", "correctness-v1", {}, details={"name": name})
            for name in fast_paths.PATHS
        )
        place.store.add("correctness", made)
        names = ["correctness", "cifar10", "throughput-resnet18"]
        steps.run_steps(place, 90, names)
        assert [name for name, *_ in begun] == ["throughput"]
        output = capsys.readouterr().out
        assert "correctness: nothing is missing" in output
        assert "cifar10: does not fit" in output
        with pytest.raises(VJEError, match="no steps"):
            steps.run_steps(place, 90, ["x"])

    @pytest.mark.slow
    def test_a_rehearsal_is_cut_and_goes_on(self, tmp_path, capfd):
        pytest.importorskip("lightly", reason="lightly is an extra")
        where = ["--root", str(tmp_path), "--data-root", str(tmp_path / "data"), "--tiny"]
        assert script.main(["next", *where, "--minutes", "1.2"]) == 0
        assert "not done" in capfd.readouterr().out
        for _ in range(20):
            script.main(["next", *where, "--minutes", "3"])
            if "not done" not in (output := capfd.readouterr().out):
                break
        assert "failed" not in output
        found = Store(tmp_path / "docs" / "results").read("cifar10")
        protocols = {r.result.protocol for r in found}
        assert {"knn-v1", "linear-v1", "training-v1", "ood-v1", "uncertainty-v2"} <= protocols


def test_task_parts_are_measured_by_their_function(tmp_path):
    path = tmp_path / "throughput" / "resnet18" / "seed0"
    trained = evaluations.Trained(path, 0, [], "cpu", tmp_path, [])
    (result,) = evaluations.measure(trained, [Task("encoder", "throughput-v1", "eager-256")])
    assert (result.protocol, result.details["name"]) == ("throughput-v1", "eager-256")
    assert evaluations.kind("knn-v1") is evaluations._standard


def test_an_older_file_is_refused_with_its_version(tmp_path):
    store = Store(tmp_path)
    Path(tmp_path / "x.jsonl").write_text('{"schema":"vje-pyro-study","schema_version":0}\n')
    with pytest.raises(CheckpointError, match=r"version': 0.*python -m studies add"):
        store.read("x")
