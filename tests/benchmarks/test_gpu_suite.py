"""The GPU suite around its steps: order, deadline, archive, wheels."""

import io
import json
import sys
import tarfile
import time

import gpu_suite
import gpu_wheels
import pytest
from gpu.archive import collect, restore
from gpu.context import Context
from gpu.report import Outcome, report_path, write_report
from gpu.run_with_timeout import run_with_timeout
from gpu.steps import STEPS, Step

from vje_pyro.errors import CheckpointError, DataError
from vje_pyro.evaluation import Figure
from vje_pyro.training.run_dir import RunDir

FIGURE = Figure(0.5, 0.4, 0.6, 10, "made up")


def python(code):
    return [sys.executable, "-c", code]


def done(context, *names):
    for name in names:
        write_report(context, name, Outcome({"accuracy": FIGURE}), 1.0)


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path, tmp_path / "data", tiny=True)


class TestOrder:
    """Which steps are begun."""

    @pytest.fixture
    def begun(self, monkeypatch):
        """Names of the steps that were begun; every one succeeds at once."""
        names = []

        def succeed(command, seconds, log):
            names.append(command[command.index("--here") + 1])
            return 0

        monkeypatch.setattr(gpu_suite, "run_with_timeout", succeed)
        return names

    def test_next_skips_what_is_done(self, context, begun, capsys):
        done(context, "correctness", "methods")
        assert gpu_suite.main(["--tiny", "--next", "--root", str(context.root)]) == 0
        assert begun == [name for name in STEPS if name not in ("correctness", "methods")]
        assert "ablation: done" in capsys.readouterr().out

    def test_step_does_one_again(self, context, begun):
        done(context, "ood")
        assert gpu_suite.main(["--tiny", "--step", "ood", "--root", str(context.root)]) == 0
        assert begun == ["ood"]

    def test_a_step_that_keeps_nothing_must_fit(self, context, begun):
        short = Step("ood", "", 3, None, keeps=False)
        long = Step("sweep", "", 7, None)
        assert gpu_suite.run_steps(context, [long, short, long], minutes=2) == 0
        assert begun == ["sweep"]
        begun.clear()
        gpu_suite.run_steps(context, [short, long, short], minutes=2)
        assert begun == ["ood", "sweep"]  # the first in any case; the second keeps what it has

    def test_nothing_is_begun_without_time_to_stop(self, context, begun):
        gpu_suite.run_steps(context, [STEPS["ablation"], STEPS["sweep"]], minutes=0.5)
        assert begun == ["ablation"]

    def test_a_failure_does_not_stop_the_others(self, context, monkeypatch, capsys):
        codes = iter([1, 0, None, 0])

        def run(command, seconds, log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("\n".join(f"line {number}" for number in range(100)))
            return next(codes)

        monkeypatch.setattr(gpu_suite, "run_with_timeout", run)
        assert gpu_suite.run_steps(context, list(STEPS.values()), minutes=60) == 1
        output = capsys.readouterr().out
        names = list(STEPS)
        assert f"{names[0]}: failed" in output
        assert "line 99" in output
        assert "line 84" not in output
        assert f"{names[1]}: done" in output
        assert f"{names[2]}: no time left" in output
        assert names[3] not in output

    def test_list_shows_what_is_done(self, context, capsys):
        done(context, "sweep")
        assert gpu_suite.main(["--tiny", "--list", "--root", str(context.root)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == list(STEPS)
        assert [line.split()[0] for line in lines if line.split()[1] == "done"] == ["sweep"]

    def test_an_error_of_a_step_is_told_without_a_result(self, context, capsys):
        def fail(_):
            raise DataError("no data")

        assert gpu_suite.run_here(context, Step("ood", "", 1, fail)) == 1
        assert "error: no data" in capsys.readouterr().err
        assert not report_path(context, "ood").exists()


def test_a_step_is_told_what_the_suite_was_told(context, monkeypatch):
    given, told = [], []
    run = lambda command, *_: given.append(command) or 0  # noqa: E731
    monkeypatch.setattr(gpu_suite, "run_with_timeout", run)
    monkeypatch.setattr(gpu_suite, "run_here", lambda *arguments: told.append(arguments) or 0)
    arguments = ["--tiny", "--step", "sweep", "--root", str(context.root), "--workers", "3"]
    assert gpu_suite.main(arguments) == 0
    ((_, script, *rest),) = given
    assert script == gpu_suite.__file__
    assert gpu_suite.main(rest) == 0
    assert told == [(Context(context.root, context.data_root, True, 3), STEPS["sweep"])]


@pytest.mark.slow
def test_a_step_in_a_process_of_its_own(context, capsys):
    assert gpu_suite.main(["--tiny", "--step", "cifar10-vje-100", "--root", str(context.root)]) == 0
    assert "cifar10-vje-100: done" in capsys.readouterr().out
    assert json.loads(report_path(context, "cifar10-vje-100").read_text())["tiny"]
    assert "knn-v1" in (context.runs / "logs" / "cifar10-vje-100.log").read_text()


class TestSupervise:
    """The deadline."""

    def test_code_and_output(self, tmp_path):
        log = tmp_path / "logs" / "step.log"
        assert run_with_timeout(python("print('hello'); raise SystemExit(3)"), 60, log) == 3
        assert run_with_timeout(python("print('again')"), 60, log) == 0
        assert log.read_text().split() == ["hello", "again"]

    def test_it_is_asked_to_stop_and_waited_for(self, tmp_path):
        saved = tmp_path / "saved"
        code = (
            "import signal, sys, time\n"
            "def save(*_):\n"
            f"    time.sleep(0.3); open({str(saved)!r}, 'w'); sys.exit()\n"
            "signal.signal(signal.SIGTERM, save)\n"
            "time.sleep(60)"
        )
        start = time.monotonic()
        assert run_with_timeout(python(code), 22, tmp_path / "log", grace=20) is None
        assert saved.exists()
        assert time.monotonic() - start < 15

    def test_what_it_started_is_stopped_too_and_the_deaf_are_killed(self, tmp_path):
        beat = tmp_path / "beat"
        deaf = (
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"while True: open({str(beat)!r}, 'a').write('.'); time.sleep(0.05)"
        )
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deaf!r}])"
        assert run_with_timeout(python(code), 3.5, tmp_path / "log", grace=1) is None
        size = beat.stat().st_size
        time.sleep(0.5)
        assert size > 0
        assert beat.stat().st_size == size


class TestArchive:
    """Results on their way."""

    def test_round_trip(self, context, tmp_path, capsys):
        done(context, "ood", "correctness")
        training = context.runs / "cifar10-vje-100" / "seed0"
        (training / "logs").mkdir(parents=True)
        (training / "logs" / "epochs.csv").write_text("epoch\n1\n")
        (training / "last.safetensors").write_bytes(b"weights")
        archive, other = tmp_path / "out" / "results.tar.gz", tmp_path / "other"
        assert collect(context, archive) == 3
        assert gpu_suite.main(["--restore", str(archive), "--root", str(other), "--list"]) == 0
        found = {p.relative_to(other).as_posix() for p in other.rglob("*") if p.is_file()}
        assert found == {
            "docs/results/gpu/ood.json",
            "docs/results/gpu/correctness.json",
            "runs/gpu/cifar10-vje-100/seed0/logs/epochs.csv",
        }
        original = report_path(context, "ood").read_bytes()
        assert (other / "docs/results/gpu/ood.json").read_bytes() == original
        assert "3 files" in capsys.readouterr().out

    def test_the_logs_of_a_lost_run_do_not_stand_in_its_way(self, context):
        training = context.runs / "cifar10-vje-100" / "seed0" / "logs"
        training.mkdir(parents=True)
        (training / "epochs.csv").write_text("epoch\n1\n")
        RunDir(training.parent).check(resume=False)
        (training.parent / "run.json").write_text("{}")
        with pytest.raises(CheckpointError, match="already holds a run"):
            RunDir(training.parent).check(resume=False)

    @pytest.mark.parametrize("name", ["../x.json", "/x.json", "docs/results/x.json", "a.py"])
    def test_files_that_belong_elsewhere_are_refused(self, context, tmp_path, name):
        archive = tmp_path / "foreign.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        with pytest.raises(DataError, match="which is no result"):
            restore(context, archive)

    def test_no_archive(self, context, tmp_path):
        (tmp_path / "broken.tar.gz").write_bytes(b"not a tar")
        for name in ("broken.tar.gz", "absent.tar.gz"):
            with pytest.raises(DataError, match="not an archive"):
                restore(context, tmp_path / name)


class TestReport:
    """The result file of a step."""

    def test_it_says_where_it_comes_from(self, context):
        write_report(context, "ood", Outcome({"a": FIGURE}, {"n": 3}, (0, 1), passes=True), 1.26)
        report = json.loads(report_path(context, "ood").read_text())
        assert report["figures"]["a"]["low"] == 0.4
        assert (report["seeds"], report["seconds"], report["passes"]) == ([0, 1], 1.3, True)
        assert report["device"]["name"] == "cpu"
        assert report["versions"]["torch"]

    def test_no_number_is_no_number(self, context):
        bad = Figure(float("nan"), 0.0, 1.0, 1, "one run")
        with pytest.raises(ValueError, match="JSON"):
            write_report(context, "ood", Outcome({"a": bad}), 1.0)
        assert not report_path(context, "ood").exists()


def test_wheels_are_those_of_the_constraints(tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# a==0\nPyro.PPL==1.9\nscipy==1.17\n")
    assert gpu_wheels.pinned(["pyro-ppl"], constraints) == ["Pyro.PPL==1.9"]
    with pytest.raises(SystemExit, match="torch"):
        gpu_wheels.pinned(["scipy", "torch"], constraints)
    download, build = gpu_wheels.commands(tmp_path, ["scipy"])
    assert {"--no-deps", "--only-binary=:all:", "3.12"} <= set(download)
    assert any(word.startswith("scipy==") for word in download)
    assert [word.split("==")[0] for word in build if "==" in word] == ["antlr4-python3-runtime"]
