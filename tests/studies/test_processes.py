"""Commands side by side, and their deadline."""

import os
import sys
import time

from studies.processes import run_all


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_all_run_and_say_how_they_ended(tmp_path):
    logs = [tmp_path / "logs" / str(n) for n in range(5)]
    commands = [
        (log, python(f"print({n}); raise SystemExit({n % 2})")) for n, log in enumerate(logs)
    ]
    assert run_all(commands, workers=2) == [0, 1, 0, 1, 0]
    assert run_all(commands[:1], workers=2) == [0]
    assert [log.read_text().split() for log in logs[:2]] == [["0", "0"], ["1"]]


def test_none_is_started_after_the_time(tmp_path):
    command = python(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert run_all([(tmp_path / "log", command)], seconds=1, grace=2) == [None]
    assert not (tmp_path / "ran").exists()


def test_so_many_run_at_a_time(tmp_path):
    # Each waits for the other to begin: one after the other neither would end well.
    code = (
        "import pathlib, time; here = pathlib.Path({here!r}); here.touch()\n"
        "for _ in range(3000):\n"
        "    if pathlib.Path({other!r}).exists(): raise SystemExit(0)\n"
        "    time.sleep(0.01)\n"
        "raise SystemExit(1)"
    )
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    commands = [python(code.format(here=a, other=b)) for a, b in ((one, two), (two, one))]
    assert run_all([(tmp_path / "log", command) for command in commands], workers=2) == [0, 0]


def test_the_cores_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    log, code = tmp_path / "log", "import os; print(os.environ['OMP_NUM_THREADS'])"
    run_all([(log, python(code))] * 2, workers=5)
    assert log.read_text().split() == ["8", "8"]


def test_they_are_asked_to_stop_and_waited_for(tmp_path):
    saved = tmp_path / "saved"
    code = (
        "import signal, sys, time\n"
        "def save(*_):\n"
        f"    time.sleep(0.3); open({str(saved)!r}, 'w'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "time.sleep(60)"
    )
    commands = [(tmp_path / "log", python(code)), (tmp_path / "log", python("pass"))]
    assert run_all(commands, workers=1, seconds=22, grace=20) == [None, None]
    assert saved.exists()


def test_what_they_started_is_stopped_too_and_the_deaf_are_killed(tmp_path):
    beat = tmp_path / "beat"
    deaf = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"while True: open({str(beat)!r}, 'a').write('.'); time.sleep(0.05)"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {deaf!r}])"
    assert run_all([(tmp_path / "log", python(code))], seconds=3.5, grace=1) == [None]
    size = beat.stat().st_size
    time.sleep(0.5)
    assert size > 0
    assert beat.stat().st_size == size
