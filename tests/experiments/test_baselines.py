"""Baselines through the commands: train, resume, evaluate, report; and that they learn."""

import csv
import json

import pytest
from commandline import TINY, run_cli

from vje_pyro import load
from vje_pyro.errors import VJEError

pytest.importorskip("lightly", reason="lightly is an extra")

SMALL = {
    "simsiam": ["method.hidden_dim=64", "method.output_dim=64", "method.predictor_dim=16"],
    "byol": ["method.hidden_dim=64", "method.output_dim=32", "method.predictor_dim=64"],
    "barlow_twins": ["method.hidden_dim=64", "method.output_dim=64"],
    "vicreg": ["method.hidden_dim=64", "method.output_dim=64"],
    "moco_v3": ["method.hidden_dim=64", "method.output_dim=32", "method.predictor_dim=64"],
    "simclr": ["method.hidden_dim=64", "method.output_dim=32"],
    "lejepa": ["method.hidden_dim=64", "method.output_dim=32"],
}


def train(method, run_dir, *overrides):
    """Exit code of a short run."""
    run = f"run_dir={run_dir}"
    return run_cli("train", *TINY, f"method={method}", *SMALL[method], run, *overrides)


def rows(run_dir, log):
    with (run_dir / "logs" / f"{log}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def byol_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("baselines") / "byol"
    assert train("byol", path, "training.log_every=5") == 0
    return path


def test_a_run_is_evaluated(byol_run):
    assert run_cli("evaluate", byol_run, "--protocols", "knn-v1") == 0
    result = json.loads((byol_run / "results" / "knn-v1-encoder.json").read_text())
    assert result["method"] == "BYOL"
    assert 0.2 < result["figures"]["accuracy"]["value"] <= 1


def test_a_run_is_reported(byol_run):
    assert run_cli("report", byol_run) == 0
    html = (byol_run / "report.html").read_text()
    assert "BYOL" in html


def test_a_run_is_loaded_and_says_what_it_has_not(byol_run):
    run = load(byol_run)
    images = run.source.split("test").images[:4]
    assert run.embed(images).shape == (4, 16)
    with pytest.raises(VJEError, match=r"BYOL has no posterior: it is not probabilistic"):
        run.posterior(images)


def test_a_run_cannot_be_diagnosed_and_says_why(byol_run, capsys):
    assert run_cli("diagnose", byol_run) == 2
    assert "BYOL cannot be diagnosed" in capsys.readouterr().err


def check_that_it_learns(run_dir, method, *overrides):
    settings = ["loader.batch_size=128", "training.log_every=10", *overrides]
    assert train(method, run_dir, *settings) == 0
    steps = rows(run_dir, "steps")
    assert float(steps[-1]["loss"]) < float(steps[0]["loss"])
    assert float(steps[-1]["std"]) > 0.3  # 1 is an even spread, 0 a point
    last = rows(run_dir, "epochs")[-1]
    assert last["alarms"] == ""
    return int(last["step"]), float(last["knn"])


@pytest.mark.parametrize("method", SMALL)
def test_the_loss_decreases(method, tmp_path):
    step, _ = check_that_it_learns(
        tmp_path / "run", method, "training.epochs=2", "monitor.every_epochs=2"
    )
    assert step == 22


@pytest.mark.slow
@pytest.mark.parametrize("method", SMALL)
def test_nothing_collapses_in_220_steps(method, tmp_path):
    settings = ["encoder.widths=[16,32]", "encoder.stem_width=16", "method.hidden_dim=256"]
    monitor = ["monitor.bank=1000", "monitor.queries=400", "monitor.every_epochs=20"]
    step, knn = check_that_it_learns(
        tmp_path / "run", method, "training.epochs=20", *settings, *monitor
    )
    assert step == 220
    assert knn > 0.85  # 0.90 to 0.94 were seen with wider heads
