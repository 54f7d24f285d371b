"""The study of methods: the search, its choice, what is skipped, and one small study."""

import importlib.util
from pathlib import Path

import pytest

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import DEFAULT, Figure, Result

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "methods.py"
spec = importlib.util.spec_from_file_location("methods_study", SCRIPT)
methods = importlib.util.module_from_spec(spec)
spec.loader.exec_module(methods)

TINY = (
    "training.epochs=1", "encoder.widths=[8,16]", "encoder.stem_width=8", "data.train_limit=250",
    "loader.batch_size=50", "monitor.bank=100", "monitor.queries=50", "training.tensorboard=false",
)  # fmt: skip


def result(accuracy, protocol="knn-v1", seed=0):
    figures = {"accuracy": Figure(accuracy, accuracy, accuracy, 1, "made up")}
    return Result(protocol, {"name": "digits"}, "M", "encoder", figures, seed)


def searched(study, method, accuracies):
    for rate, accuracy in accuracies.items():
        result(accuracy).write(study.rate_file(method, rate))


@pytest.mark.parametrize(
    ("accuracies", "third", "best"),
    [
        ({1e-3: 0.5, 5e-4: 0.3, 2e-3: 0.4}, 2e-3, 1e-3),
        ({1e-3: 0.4, 5e-4: 0.3, 2e-3: 0.5}, 2e-3, 2e-3),
        ({1e-3: 0.3, 5e-4: 0.5, 2.5e-4: 0.4}, 2.5e-4, 5e-4),
        ({1e-3: 0.3, 5e-4: 0.4, 2.5e-4: 0.5, 2e-3: 0.9}, 2.5e-4, 2.5e-4),  # a stray file
        ({1e-3: 0.5, 5e-4: 0.5, 2.5e-4: 0.5}, 2.5e-4, 2.5e-4),
    ],
)
def test_the_third_rate_is_beyond_the_better_and_the_best_is_chosen(
    tmp_path, accuracies, third, best
):
    study = methods.Study("digits", root=tmp_path)
    assert study.rates("byol") == methods.RATES
    searched(study, "byol", accuracies)
    assert study.rates("byol") == (*methods.RATES, third)
    assert study.best_rate("byol") == best


def test_there_is_no_best_rate_before_the_third(tmp_path):
    study = methods.Study("digits", root=tmp_path)
    searched(study, "byol", {1e-3: 0.5, 5e-4: 0.3})
    with pytest.raises(VJEError, match=r"rate-0\.002"):
        study.best_rate("byol")


def test_every_method_is_searched_before_a_seed_and_every_seed_before_the_next(
    tmp_path, monkeypatch
):
    study, done = methods.Study("digits", root=tmp_path), []

    def search(_, method, rate):
        done.append((method, rate))
        searched(study, method, {rate: rate if method == "vje" else -rate})

    monkeypatch.setattr(methods.Study, "search", search)
    monkeypatch.setattr(methods.Study, "final", lambda _, *job: done.append(job))
    for job in study.jobs(["vje", "byol"], [0, 1]):
        job()
    rates = [("vje", 1e-3), ("byol", 1e-3), ("vje", 5e-4), ("byol", 5e-4)]
    rates += [("vje", 2e-3), ("byol", 2.5e-4)]
    assert done == [*rates, ("vje", 0), ("byol", 0), ("vje", 1), ("byol", 1)]


def test_what_is_done_is_skipped(tmp_path, monkeypatch):
    study, done = methods.Study("digits", root=tmp_path), []
    monkeypatch.setattr(methods.Study, "final", lambda _, *job: done.append(job))
    searched(study, "vje", {1e-3: 0.1, 5e-4: 0.2, 2.5e-4: 0.3})
    for protocol in (*DEFAULT, methods.TRAINING_PROTOCOL):
        assert not study.is_done("vje", 0)
        made = result(0.5, protocol)
        made.write(study.results("vje") / made.filename)
    for job in study.jobs(["vje"], [0, 1]):
        job()
    assert done == [("vje", 1)]


def test_no_job_is_begun_after_the_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(methods.Study, "search", lambda *_: pytest.fail("begun"))
    assert methods.main(["--root", str(tmp_path), "--minutes", "-1", "--methods", "vje"]) == 0
    assert "start it again to go on" in capsys.readouterr().out


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    done = []

    def search(_, method, rate):
        if rate == methods.RATES[0]:
            raise VJEError("went to infinity")
        done.append(rate)

    monkeypatch.setattr(methods.Study, "search", search)
    assert methods.main(["--root", str(tmp_path), "--methods", "vje", "--seeds", "0"]) == 1
    assert done == [*methods.RATES[1:]]
    errors = capsys.readouterr().err
    assert "went to infinity" in errors
    assert "no result file" in errors  # so there is no best rate for the final seed


def test_several_workers_get_a_method_each(tmp_path, monkeypatch):
    given, studied = [], []
    monkeypatch.setattr(methods, "run_all", lambda commands, *_: given.append(commands) or 0)
    arguments = ["a=1", "--methods", "vje", "byol", "--seeds", "0", "2", "--workers", "2"]
    assert methods.main([*arguments, "--root", str(tmp_path), "--study", "gpu/methods"]) == 0
    (commands,) = given
    monkeypatch.setattr(
        methods.Study, "jobs", lambda *job: studied.append((job[0].name, *job)) or iter(())
    )
    for command in commands:
        assert methods.main(command[2:]) == 0
    assert [(name, *job) for name, _, *job in studied] == [
        ("gpu/methods", ["vje"], [0, 2]),
        ("gpu/methods", ["byol"], [0, 2]),
    ]
    assert {study.overrides for _, study, *_ in studied} == {("a=1",)}


@pytest.mark.slow
def test_a_tiny_study_of_one_method(tmp_path, monkeypatch):
    pytest.importorskip("lightly", reason="lightly is an extra")
    monkeypatch.setattr(methods, "RATES", (1e-3,))
    monkeypatch.setattr(methods, "BEYOND", {1e-3: 4e-3})
    monkeypatch.setitem(methods.METHODS, "byol", [
        "method=byol", "method.hidden_dim=32", "method.output_dim=16", "method.predictor_dim=32",
    ])  # fmt: skip
    arguments = [
        *TINY,
        "--experiment",
        "digits",
        "--methods",
        "byol",
        "--seeds",
        "0",
        "--root",
        str(tmp_path),
    ]
    assert methods.main(arguments) == 0

    folder = tmp_path / "docs" / "results" / "methods" / "byol"
    scores = {}
    for rate in (1e-3, 4e-3):
        found = Result.read(folder / "search" / f"rate-{rate:g}.json")
        assert found.protocol == "rate-search-v1"  # no table takes it for a test result
        assert (found.dataset["train"], found.dataset["test"]) == (250, 1437 - 250)
        assert found.config["optimizer"]["lr"] == found.settings["rate"] == rate
        scores[rate] = found.figures["accuracy"].value

    final = Result.read(folder / "BYOL-encoder-seed0-knn-v1.json")
    assert final.config["optimizer"]["lr"] == max(scores, key=lambda rate: (scores[rate], -rate))
    assert (final.dataset["train"], final.dataset["test"]) == (250, 360)
    training = Result.read(folder / "BYOL-encoder-seed0-training-v1.json").figures
    assert 1 <= training["rankme"].value <= 16
    assert 0 < training["step_ms"].low <= training["step_ms"].value
    assert training["peak_memory_mib"].value > 50
    assert not any(str(tmp_path) in path.read_text() for path in folder.rglob("*.json"))

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert methods.main(arguments) == 0  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    runs = sorted(path.name for path in (tmp_path / "runs" / "methods" / "byol").iterdir())
    assert runs == ["rate-0.001-seed0", "rate-0.004-seed0"]  # the best of them is the final one
