"""Trackers of experiments beside the run's own CSV files."""

import importlib.util
import logging

import pytest
from lightning_fabric.loggers.logger import Logger

from vje_pyro.errors import VJEError
from vje_pyro.training.trackers import MLflow, TensorBoard, Tracker, WeightsAndBiases

ALL = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def in_tensorboard(run, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "logs" / "tb")).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def in_mlflow(run, name):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{run.absolute() / 'logs' / 'mlruns'}")
    experiment = client.get_experiment_by_name("vje-pyro").experiment_id
    (one,) = client.search_runs([experiment])  # a resumption goes on with the same
    assert (one.info.status, one.data.params["name"]) == ("FINISHED", "toy")
    return {point.step: point.value for point in client.get_metric_history(one.info.run_id, name)}


def interrupted_and_resumed(toy, run, make):
    settings = {"config": {"name": "toy"}, "checkpoint_every_steps": 5, "epochs": 2}
    with pytest.raises(RuntimeError, match="stopped by the test"):
        toy.train(run, make_views=toy.fail_at(8), trackers=make(), **settings)
    toy.train(run, resume=True, trackers=make(), **settings)


@pytest.mark.parametrize(("name", "read"), [("tensorboard", in_tensorboard), ("mlflow", in_mlflow)])
def test_a_tracker_has_what_the_csv_files_have(tmp_path, toy, monkeypatch, name, read):
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    interrupted_and_resumed(toy, run, lambda: {name: ALL[name]()})
    rows = {int(row["step"]): float(row["loss"]) for row in toy.rows(run, "steps")}
    assert list(rows) == [3, 6, 8]
    assert read(run, "step/loss") == pytest.approx(rows)
    assert set(read(run, "epoch/loss")) == {4, 8}


def test_weights_and_biases_offline(tmp_path, toy, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    interrupted_and_resumed(toy, run, lambda: {"wandb": WeightsAndBiases(offline=True)})
    name = (run / "logs" / "wandb.id").read_text()
    files = sorted((run / "logs" / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
    assert len(files) == 2  # wandb sync joins what has one id
    assert b"step/near" in files[0].read_bytes()  # W&B's own process writes the last one later


class Failing(Logger):
    """A logger whose service is away from a call on."""

    name, version = "failing", ""

    def __init__(self, away):
        self.away = away

    def _call(self, name):
        if name == self.away:
            raise ConnectionError(f"no answer to {name}")

    def log_hyperparams(self, params):
        self._call("log_hyperparams")

    def log_metrics(self, metrics, step=None):
        self._call("log_metrics")

    def finalize(self, status):
        self._call("finalize")


@pytest.mark.parametrize("away", ["open", "log_hyperparams", "log_metrics", "finalize"])
def test_a_tracker_that_cannot_be_reached_is_one_warning(tmp_path, toy, caplog, away):
    class Service(Tracker):
        def open(self, directory, resume_step):
            log = Failing(away)
            log._call("open")
            return log

    plain, _ = toy.train(tmp_path / "plain")
    method, _ = toy.train(tmp_path / "tracked", trackers={"service": Service()})
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "logger=service" in warned[0]
    assert f"no answer to {away}" in warned[0]
    assert toy.same_state(plain.state_dict(), method.state_dict())
    runs = (tmp_path / "plain", tmp_path / "tracked")
    for log in ("steps", "epochs"):
        assert len({str(toy.untimed(toy.rows(run, log))) for run in runs}) == 1


@pytest.mark.parametrize(("kind", "want"), [(None, "success"), (RuntimeError, "failed")])
def test_a_tracker_is_told_how_the_run_ended(tmp_path, toy, kind, want):
    told = []

    class Service(Tracker):
        def open(self, directory, resume_step):
            log = Failing("never")
            log.finalize = told.append
            return log

    if kind is None:
        toy.train(tmp_path, trackers={"service": Service()})
    else:
        with pytest.raises(kind):
            toy.train(tmp_path, make_views=toy.fail_at(2), trackers={"service": Service()})
    assert told == [want]


@pytest.mark.parametrize("name", ALL)
def test_a_missing_extra_is_named(monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "vje_pyro.training.trackers.find_spec", lambda p: None if p == name else find(p)
    )
    with pytest.raises(VJEError, match=rf"logger={name} needs {name}.*vje-pyro\[{name}\]"):
        ALL[name]()
