"""Runs of strangers, opened with every command; and components that the user vouches for."""

import json
import pickle
import shutil
import sys

import hostile
import pytest
from commandline import TINY, run_cli

import vje_pyro
from vje_pyro import cli
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.experiments import evaluate
from vje_pyro.training.checkpoint import load_checkpoint, save_checkpoint
from vje_pyro.training.run_json import read_run_json
from vje_pyro.verbs.one_class import one_class

COMMANDS = (
    "evaluate {run}", "report {run}", "embed {run} {run} --out {out}", "diagnose {run} --quick",
    "ood {run} --out svhn", "uncertainty {run}", "train resume={run}",
    "compare {out} --run a {run}", "train resume={run} device.accelerator=cpu data.root=/tmp",
)  # fmt: skip
"""Every command that reads a run."""


SHORT = (*(o for o in TINY if not o.startswith("monitor")), "monitor=none", "training.max_steps=2")


class Mark:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def strange(run_dir, tmp_path):
    """Makes a run with one key changed; beside it a pickle that leaves a mark."""

    def make(key, value):
        path = tmp_path / "strange"
        shutil.copytree(run_dir, path)
        shutil.rmtree(path / "results", ignore_errors=True)
        (path / "x.pkl").write_bytes(pickle.dumps(Mark(tmp_path / "mark")))
        info = json.loads((path / "run.json").read_text())
        *groups, last = key.split(".")
        node = info["config"]
        for group in groups:
            node = node[group]
        node[last] = json.loads(json.dumps(value).replace("PICKLE", str(path / "x.pkl")))
        (path / "run.json").write_text(json.dumps(info))
        return path

    yield make
    assert not (tmp_path / "mark").exists()


def listing(path):
    return {
        p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*") if p.name != ".lock"
    }


def check_refused(capfd, path, out, pattern=None):
    """Give every command the run; each refuses it in one line and leaves it as it is."""
    before = listing(path)
    watch = hostile.Watch(packages=None)
    for command in COMMANDS:
        with watch.watching():
            code = run_cli(*command.format(run=path, out=out).split())
        error = capfd.readouterr().err.strip()
        assert code == 2, command
        assert error.startswith("error: "), command
        assert "the run's configuration" in error, command
        assert "\n" not in error
        assert pattern is None or pattern in error
    with watch.watching(), pytest.raises(CheckpointError):
        vje_pyro.load(path)
    assert watch.seen == {"executed": [], "written": [], "network": []}
    assert listing(path) == before
    assert not out.exists()


HIDDEN = {
    "builder": {
        "_target_": "vje_pyro.building.build",
        "config": [["_target_", "joblib.load"], ["filename", "PICKLE"]],
    },
    "function": {"_target_": "joblib.load", "filename": "PICKLE"},
    "own trust": {"_target_": "vje_pyro.load", "run": "PICKLE", "trust": ["joblib"]},
    "writer": {"_target_": "vje_pyro.training.logs.CsvLog", "path": "mark"},
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_call_that_is_hidden_in_a_run_is_never_made(strange, tmp_path, capfd, kind):
    check_refused(
        capfd, strange("method.encoder", HIDDEN[kind]), tmp_path / "out", "method.encoder"
    )


def test_the_same_in_a_part_that_the_command_does_not_use(strange, tmp_path, capfd):
    check_refused(capfd, strange("monitor", [HIDDEN["function"]]), tmp_path / "out", "monitor[0]")


def test_a_checkpoint_that_stands_for_a_lost_run_json_is_data_too(run_dir, tmp_path, capfd):
    path = tmp_path / "strange"
    shutil.copytree(run_dir, path)
    (path / "run.json").unlink()
    checkpoint = load_checkpoint(path / "checkpoints" / "last.safetensors")
    checkpoint.config["method"]["encoder"] = HIDDEN["builder"]
    save_checkpoint(checkpoint, path / "checkpoints" / "last.safetensors")
    check_refused(capfd, path, tmp_path / "out", "vje_pyro.building.build")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", None),
        ("device.compile", {"a": 1}),
        ("loader", []),
        ("training.epochs", "x"),
        ("seed", None),
        ("optimizer", {"_target_": "vje_pyro.data.Digits"}),
    ],
)
def test_what_no_run_has_is_one_line_on_resuming(strange, capfd, key, value):
    assert run_cli("train", f"resume={strange(key, value)}") == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "Traceback" not in error


def test_a_run_of_an_older_version_is_resumed(strange):
    path = strange(
        "monitor", {"_target_": "vje_pyro.training.monitors.no_monitor", "_partial_": True}
    )
    info = json.loads((path / "run.json").read_text())
    for key in ("compile", "sync_batch_norm", "activation_checkpointing", "timeout_s"):
        del info["config"]["device"][key]
    del info["config"]["trust"]
    (path / "run.json").write_text(json.dumps(info))
    assert run_cli("train", f"resume={path}") == 0


def test_init_from_takes_weights_and_makes_nothing_of_the_configuration(strange, tmp_path):
    path = strange("method.encoder", HIDDEN["builder"])
    assert run_cli("train", *SHORT, f"init_from={path}", f"run_dir={tmp_path / 'new'}") == 0
    assert "building" not in json.dumps(read_run_json(tmp_path / "new")["config"])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package with a likelihood of the user's own."""
    (tmp_path / "mine.py").write_text(
        "from vje_pyro.distributions import SphericalStudentT\n\n\n"
        'class Mine(SphericalStudentT):\n    """A user\'s own."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("VJE_TRUST", raising=False)
    yield
    sys.modules.pop("mine", None)


OWN = (*SHORT, "likelihood.direction._target_=mine.Mine")


def test_a_run_with_a_component_of_the_user_s_own_is_resumed(mine, tmp_path, capfd, monkeypatch):
    path = tmp_path / "own"
    assert run_cli("train", *OWN, f"run_dir={path}", "trust=[mine]") == 0
    before = listing(path)
    assert run_cli("train", f"resume={path}") == 2  # what the file says of trust gives none
    advice = capfd.readouterr().err
    assert "--trust mine" in advice
    assert "VJE_TRUST=mine" in advice
    assert listing(path) == before
    for words in (
        ["--trust", "other", "mine", f"resume={path}", "--trust=more"],
        [f"resume={path}", "trust=[mine]"],
    ):
        assert run_cli("train", *words) == 0, words
    monkeypatch.setenv("VJE_TRUST", "other,mine")
    assert run_cli("train", f"resume={path}") == 0
    assert run_cli("evaluate", path, "--protocols", "knn-v1") == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--trust", "mine"],
        ["--trust", "mine", "other"],
        ["--trust", "mine", "--trust", "other"],
        ["--trust", "other", "--trust", "mine"],
    ],
)
def test_trust_accumulates_on_the_commands(mine, tmp_path, words):
    function, bound, _ = cli.app.parse_args(["evaluate", "run", *words], exit_on_error=False)
    assert function is evaluate.main
    assert sorted(bound.arguments["where"].trust) == sorted({*words} - {"--trust"})


def test_a_line_in_the_user_s_own_configuration_gives_trust(mine, tmp_path, monkeypatch):
    path = tmp_path / "own"
    assert run_cli("train", *OWN, f"run_dir={path}") == 0
    with pytest.raises(CheckpointError, match="--trust mine"):
        vje_pyro.load(path)
    line = (CONFIG_DIR / "train.yaml").read_text().replace("trust: []", "trust: [mine]")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "train.yaml").write_text(line)
    from vje_pyro import building

    monkeypatch.setattr(building, "_conf", lambda: tmp_path / "conf")
    allowed = building.components()  # of the real groups, once
    monkeypatch.setattr(building, "components", lambda: allowed)
    building._own_line.cache_clear()
    try:
        assert type(vje_pyro.load(path).method).__name__ == "VJE"
        assert run_cli("train", f"resume={path}") == 0
    finally:
        building._own_line.cache_clear()


def test_a_new_training_takes_trust_and_needs_none(mine, tmp_path):
    assert run_cli("train", "--trust", "mine", *OWN, f"run_dir={tmp_path / 'run'}") == 0


def test_one_class_reads_its_own_models_with_trust(mine, tmp_path):
    overrides = [*OWN, "loader.batch_size=64"]
    with pytest.raises(VJEError, match="--trust mine"):
        one_class(overrides, tmp_path / "ten", [0])
    assert one_class(overrides, tmp_path / "ten", [0], trust=["mine"]).figures
