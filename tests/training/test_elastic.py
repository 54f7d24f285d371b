"""Processes that are started together: what ended them in words, and starting again."""

import json
import logging
import signal

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from vje_pyro.errors import VJEError
from vje_pyro.training import processes
from vje_pyro.training.checkpoint import Checkpoint, save_checkpoint
from vje_pyro.training.interrupt import Interrupted
from vje_pyro.training.processes import LostProcessError, is_restart, run_together

GLOO = "[/somewhere/gloo/transport/tcp/pair.cc:1] Connection closed by peer"


def with_checkpoint(run):
    path = run / "checkpoints" / "last.safetensors"
    path.parent.mkdir()
    save_checkpoint(Checkpoint(step=7, epoch=0, model={}), path)


@pytest.fixture
def launches(monkeypatch, tmp_path):
    """Launches that end as the test says, one after the other; notes whether each resumed."""

    def play(*endings):
        resumed, rest = [], list(endings)

        def launch(number, function, arguments):
            resumed.append(arguments[-1])
            rank, code, words = rest.pop(0)
            if code == 0:
                return "done"
            file = tmp_path / f"error{len(rest)}.json"
            if words:
                extra = {"timestamp": "1", "py_callstack": "Traceback of the process"}
                file.write_text(json.dumps({"message": {"message": words, "extraInfo": extra}}))
            raise ChildFailedError("_work", {rank: ProcessFailure(rank, 1, code, str(file))})

        monkeypatch.setattr(processes, "_launch", launch)
        return resumed

    return play


KILLED = (1, -signal.SIGKILL, "")
LOST = (0, 1, f"LostProcessError: The connection was lost: {GLOO}")
DONE = (0, 0, "")


@pytest.mark.parametrize("ending", [KILLED, LOST, (1, 3, "")])
def test_a_run_starts_again_from_its_checkpoint(tmp_path, launches, caplog, ending):
    with_checkpoint(tmp_path)
    resumed = launches(ending, ending, DONE)
    with caplog.at_level(logging.WARNING):
        assert run_together(2, tmp_path, print, max_restarts=2) == "done"
    assert resumed == [False, True, True]
    assert "Starting again from the last checkpoint (2 of 2)" in caplog.text


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        (KILLED, LostProcessError, r"Process 2 of 2 .* ended by SIGKILL; .*vje train resume="),
        (LOST, LostProcessError, r"connection was lost: \[/somewhere/gloo.*vje train resume="),
        ((0, 1, "VJEError: no such folder"), VJEError, "^no such folder$"),
        ((1, 1, "VJEError: no: such"), VJEError, r"^Process 2 of 2 .* failed: no: such Continue"),
        (
            (1, 1, "ValueError: wrong"),
            LostProcessError,
            "Process 2 of 2 .* is above. Continue from",
        ),
        ((1, 143, ""), Interrupted, "SIGTERM after step 7; .*vje train resume="),
        ((0, 130, ""), Interrupted, "SIGINT after step 7; .*vje train resume="),
    ],
)
def test_what_ends_a_run_with_a_checkpoint(tmp_path, launches, capfd, ending, error, words):
    with_checkpoint(tmp_path)
    launches(ending)
    with pytest.raises(error, match=words):
        run_together(2, tmp_path, print, max_restarts=0)
    assert ("Traceback of the process" in capfd.readouterr().err) == ("ValueError" in ending[2])


def test_nothing_to_start_again_from(tmp_path, launches):
    launches(KILLED)
    with pytest.raises(LostProcessError, match="no checkpoint yet"):
        run_together(2, tmp_path, print)


def test_interrupted_before_the_first_checkpoint(tmp_path, launches):
    launches((0, 130, ""))
    with pytest.raises(KeyboardInterrupt) as caught:
        run_together(2, tmp_path, print)
    assert not isinstance(caught.value, Interrupted)


def test_a_lost_connection_says_how_to_go_on(tmp_path):
    def lose(resume):
        raise RuntimeError(GLOO)

    with pytest.raises(LostProcessError, match="no checkpoint yet"):
        run_together(1, tmp_path, lose)
    with_checkpoint(tmp_path)
    with pytest.raises(LostProcessError, match=f"vje train resume={tmp_path}"):
        run_together(1, tmp_path, lose)


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_together(1, tmp_path, lambda resume: 1 / 0)


@pytest.mark.parametrize(("count", "restart"), [(None, False), ("0", False), ("2", True)])
def test_torchrun_says_that_it_starts_again(monkeypatch, count, restart):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert is_restart() == restart
