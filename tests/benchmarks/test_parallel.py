"""Commands side by side."""

import os
import sys

import parallel


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_all_run_and_the_failures_are_counted(tmp_path):
    commands = [
        python(f"open({str(tmp_path / str(n))!r}, 'w'); raise SystemExit({n % 2})")
        for n in range(5)
    ]
    assert parallel.run_all(commands, workers=2) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == list("01234")


def test_none_is_started_after_the_time(tmp_path):
    command = python(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert parallel.run_all([command], workers=1, minutes=-1) == 0
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
    assert parallel.run_all(commands, workers=2) == 0


def test_the_cores_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    path = tmp_path / "threads"
    code = f"import os; open({str(path)!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    assert parallel.run_all([python(code)], workers=5) == 0
    assert path.read_text() == "3"
