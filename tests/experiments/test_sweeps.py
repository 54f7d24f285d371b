"""A sweep: where its jobs go, and what becomes of the others when one fails."""

import json
import warnings
from types import SimpleNamespace

import pytest
from commandline import TINY, run_cli
from hydra.errors import HydraException
from omegaconf import OmegaConf

from vje_pyro.configuration.overrides import composed
from vje_pyro.configuration.sweeps import Sweep
from vje_pyro.errors import VJEError
from vje_pyro.reading import read_csv
from vje_pyro.verbs import pretrain

SHORT = (*TINY, "training.max_steps=1", "training.progress=false")


def test_one_bad_job_ends_no_other(tmp_path, capfd):
    folder = tmp_path / "my sweep"
    assert run_cli("train", "-m", *SHORT, "seed=0,-1,2", f"run_dir={folder}") == 2
    seeds = [json.loads((folder / n / "run.json").read_text())["seed"] for n in ("0", "2")]
    assert seeds == [0, 2]
    assert not (folder / "1" / "run.json").exists()
    error = capfd.readouterr().err.strip().splitlines()
    assert error == [
        "error: seed=-1: must be at least 0",
        "error: 1 of 3 jobs failed:",
        "  job 1 (seed=-1): seed=-1: must be at least 0",
    ]


def test_an_interruption_ends_the_sweep(tmp_path, monkeypatch, capfd):
    begun = []

    def train(config, run_dir):
        begun.append(config.seed)
        if config.seed == 0:
            raise ZeroDivisionError("a fault")
        raise KeyboardInterrupt("stopped")

    monkeypatch.setattr(pretrain, "pretrain", train)
    assert run_cli("train", "-m", *SHORT, "seed=0,1,2", f"run_dir={tmp_path}") == 130
    assert begun == [0, 1]
    error = capfd.readouterr().err
    assert "Traceback" in error  # a fault of the program shows where
    assert "  job 0 (seed=0): a fault\n" in error
    assert error.strip().endswith("stopped")


def test_a_sweep_without_failures_says_nothing(capfd):
    sweep = Sweep()
    with sweep.job(0, ["seed=1"]):
        pass
    assert sweep.exit_code() == 0
    assert capfd.readouterr().err == ""


def test_optuna_chooses_by_what_a_training_is_judged_by(tmp_path, capfd):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna is absent")
    words = (
        "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=3",
        "hydra.sweeper.direction=maximize", "optimizer.lr=interval(1e-4,1e-2)",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the sweeper, about its own optuna
        assert run_cli("train", "-m", *SHORT, *words, f"run_dir={tmp_path}") == 0
    found = OmegaConf.load(tmp_path / "optimization_results.yaml")
    knn = {}
    for number in "012":
        (row,) = read_csv(tmp_path / number / "logs" / "epochs.csv")
        config = json.loads((tmp_path / number / "run.json").read_text())["config"]
        knn[config["optimizer"]["lr"]] = float(row["knn"])
    assert len(knn) == 3
    assert found.best_value == max(knn.values()) == knn[found.best_params["optimizer.lr"]]


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "code"), [("0,1", 0), ("0,-1", 2)])
def test_submitit_trains_each_job_in_a_process_of_its_own(tmp_path, capfd, seeds, code):
    pytest.importorskip("submitit", reason="the extra submitit is absent")
    words = ("hydra/launcher=submitit_local", f"seed={seeds}", f"run_dir={tmp_path}")
    assert run_cli("train", "-m", *SHORT, *words) == code
    done = [(tmp_path / number / "run.json").exists() for number in "01"]
    assert done == [True, code == 0]
    assert ("job 1 (seed=-1): seed=-1: must be at least 0" in capfd.readouterr().err) == (code > 0)


@pytest.mark.parametrize(
    ("choice", "extra"),
    [("hydra/sweeper=optuna", "optuna"), ("hydra/launcher=submitit_local", "submitit")],
)
def test_a_plugin_that_is_not_installed_is_named(monkeypatch, choice, extra):
    def absent(*_, **__):
        raise HydraException(f"In 'hydra/config': Could not find '{choice.replace('=', '/')}'")

    monkeypatch.setattr("vje_pyro.configuration.overrides.compose", absent)
    with pytest.raises(VJEError, match=rf"pip install 'vje-pyro\[{extra}\]'"):
        composed([choice])


SLURM = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "pretrain"}


def test_two_tasks_for_one_device_are_refused_and_leave_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert run_cli("train", *SHORT) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: SLURM started 2 processes")
    assert "set device.devices=2" in error
    assert not any(tmp_path.iterdir())


def test_processes_of_a_launcher_agree_on_the_directory(monkeypatch, tmp_path):
    first = str(tmp_path / "of the first")
    fabric = SimpleNamespace(is_global_zero=False, broadcast=lambda own: first)
    fitted, launched = [], []
    monkeypatch.setattr(pretrain, "make_fabric", lambda device: fabric)
    monkeypatch.setattr(pretrain, "_launch", lambda fabric, timeout_s: launched.append(fabric))
    monkeypatch.setattr(pretrain, "_fit", lambda *arguments: fitted.append(arguments))
    config = OmegaConf.create({"device": {}, "run_dir": "x"})
    pretrain._train(config, str(tmp_path / "own"), None, resume=False)
    ((told, _, directory, *_),) = fitted
    assert told.run_dir == str(directory.path) == first
    assert launched == [fabric]
