"""``vje compare`` from training to the page."""

import json
import shutil

import pytest
from commandline import TINY, run_cli

SETTINGS = [*TINY[1:], "training.epochs=1"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    arguments = [out, "--seeds", 0, "--protocols", "knn-v1", "--set", *SETTINGS]
    methods = ["--method", "vje", "--method", "two latents", "method=vje", "method.num_particles=2"]
    assert run_cli("compare", *arguments, *methods) == 0
    return out, [*arguments, *methods]


def test_every_form_is_written(compared):
    out, _ = compared
    assert {path.name for path in out.glob("comparison.*")} == {
        "comparison.md", "comparison.tex", "comparison.html", "comparison.json",
    }  # fmt: skip
    content = json.loads((out / "comparison.json").read_text())
    assert [c["label"] for c in content["contenders"]] == ["vje", "two latents"]
    assert content["differences"] == {"method.num_particles": [1, 2]}
    assert content["unequal_budget"] == []
    for contender in content["contenders"]:
        assert 0 < contender["figures"]["knn-v1 accuracy"]["value"] <= 1
        assert contender["logged"]["peak_memory"]["value"] > 50


def test_finished_runs_are_not_trained_again(compared):
    out, arguments = compared
    runs = sorted(out.glob("runs/*/seed0/checkpoints/last.safetensors"))
    before = [path.stat().st_mtime_ns for path in runs]
    assert run_cli("compare", *arguments) == 0
    assert len(runs) == 2
    assert [path.stat().st_mtime_ns for path in runs] == before


def test_finished_runs_can_be_given(compared, tmp_path):
    run = next((compared[0] / "runs").glob("vje/seed0"))
    assert run_cli("compare", tmp_path, "--protocols", "knn-v1", "--run", "ours", run) == 0
    assert "| ours |" in (tmp_path / "comparison.md").read_text()


def test_runs_that_were_not_trained_alike_are_compared_by_force_only(compared, tmp_path, capsys):
    run, other = next((compared[0] / "runs").glob("vje/seed0")), tmp_path / "other"
    shutil.copytree(run, other)
    info = json.loads((other / "run.json").read_text())
    info["config"]["training"]["epochs"] = 7
    (other / "run.json").write_text(json.dumps(info))
    arguments = [tmp_path / "out", "--protocols", "knn-v1", "--run", "a", run, "--run", "b", other]
    assert run_cli("compare", *arguments) != 0
    assert "not trained alike: ['training.epochs'] differ" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run_cli("compare", *arguments, "--force") == 0
    for form in ("md", "html", "tex"):
        text = (tmp_path / "out" / f"comparison.{form}").read_text()
        assert ("b \\dag{}" if form == "tex" else "b †") in text


def test_a_training_that_fails_is_told(tmp_path, capfd):
    arguments = ["--seeds", 0, "--set", *SETTINGS]
    assert run_cli("compare", tmp_path, *arguments, "--method", "bad", "method.beta=-1") != 0
    told = capfd.readouterr()
    assert "ended with exit code" in told.err
    assert "beta" in told.err
