"""The ablation: what is missing, one process a run, and one tiny run."""

import ablation
import pytest
from commandline import TINY

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result

ONE_EPOCH = (*TINY[1:], "training.epochs=1", "training.progress=false")


def done(folder, seed, protocol):
    figure = Figure(0.5, 0.4, 0.6, 10, "made up")
    result = Result(protocol, {"name": "digits"}, "VJE", "encoder", {"accuracy": figure}, seed)
    result.write(folder / result.filename)


def test_what_is_missing_a_seed_of_every_variant_first(tmp_path):
    done(tmp_path / "df-3", 0, "knn-v1")
    done(tmp_path / "df-3", 0, "linear-v1")
    done(tmp_path / "df-3", 0, "training-v1")
    done(tmp_path / "df-3", 0, "latent-v1")
    done(tmp_path / "baseline", 1, "knn-v1")  # the linear probe is not there
    jobs = ablation.missing(tmp_path, [0, 1], ["baseline", "df-3"])
    assert jobs == [("baseline", 0), ("baseline", 1), ("df-3", 1)]


def test_several_workers_get_a_run_each(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(ablation, "run_all", lambda commands, *_: given.append(commands) or 1)
    arguments = ["data.root=x", "--variants", "df-3", "df-10", "--seeds", "0", "--workers", "2"]
    assert ablation.main([*arguments, "--root", str(tmp_path), "--study", "gpu/ablation"]) == 1
    (commands,) = given
    ran = []

    def stop(*job):
        ran.append(job)
        raise VJEError("far enough")

    monkeypatch.setattr(ablation, "run_seed", stop)
    for command in commands:
        assert ablation.main(command[2:]) == 1
    assert [(job[1], job[2], job[3][0]) for job in ran] == [
        ("gpu/ablation/df-3", 0, "likelihood.direction.df=3"),
        ("gpu/ablation/df-10", 0, "likelihood.direction.df=10"),
    ]
    assert all("data.root=x" in job[3] and job[-1] == tmp_path for job in ran)


def test_a_tiny_variant_is_trained_evaluated_and_then_skipped(tmp_path, monkeypatch):
    arguments = [*ONE_EPOCH, "--experiment", "digits", "--variants", "beta-4", "--seeds", "3"]
    assert ablation.main([*arguments, "--root", str(tmp_path)]) == 0
    folder = tmp_path / "docs" / "results" / "ablation" / "beta-4"
    result = Result.read(folder / "VJE-encoder-seed3-knn-v1.json")
    assert result.config["method"]["beta"] == 4
    assert 0.1 < result.figures["accuracy"].value < 1
    assert str(tmp_path) not in (folder / "VJE-encoder-seed3-linear-v1.json").read_text()
    training = folder / "VJE-encoder-seed3-training-v1.json"
    figures = Result.read(training).figures
    assert 0 <= figures["active_units"].value <= 1 < figures["rankme"].value
    assert str(tmp_path) not in training.read_text()
    latent = Result.read(folder / "VJE-encoder-seed3-latent-v1.json").figures
    assert latent["kl"].value > 0
    assert latent["latent_gain"].interval == "95% bootstrap over images"

    training.unlink()  # is made again from the logs, and nothing is evaluated for it
    evaluated = [folder / f"VJE-encoder-seed3-{name}.json" for name in ablation.PROTOCOLS]
    times = [path.stat().st_mtime_ns for path in evaluated]
    assert ablation.main([*arguments, "--root", str(tmp_path)]) == 0
    assert Result.read(training).figures == figures
    assert [path.stat().st_mtime_ns for path in evaluated] == times
    monkeypatch.setattr(ablation, "run", lambda *job: pytest.fail("run again"))
    assert ablation.main([*arguments, "--root", str(tmp_path)]) == 0
