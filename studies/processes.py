"""Commands side by side with a deadline: asked to stop before it, made to stop at it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 30.0
"""Seconds between asking and making: time to write a checkpoint."""


def run_all(
    commands: Sequence[tuple[Path, Sequence[str]]],
    workers: int = 1,
    seconds: float = float("inf"),
    grace: float = GRACE,
) -> list[int | None]:
    """Run commands, so many at a time, and all that they start, for so long at most.

    The processor's cores are shared out among them, so that they do not wait for each other.
    ``grace`` seconds before the end the process groups get SIGTERM, upon which a training writes
    its checkpoint; at the end SIGKILL. None is started after the first of these moments.

    Args:
        commands: The file that takes the output, at its end, and program and arguments.
        workers: How many run at a time; at least one.
        seconds: Time that there is.
        grace: Seconds kept for stopping.

    Returns:
        Exit codes, None for what the time ended or did not begin.
    """
    end = time.monotonic() + seconds
    codes: list[int | None] = [None] * len(commands)
    running: dict[int, subprocess.Popen[bytes]] = {}
    waiting = list(range(len(commands)))
    threads = str(max(1, (os.cpu_count() or 1) // min(workers, max(1, len(commands)))))
    try:
        while (waiting or running) and time.monotonic() < end - grace:
            while waiting and len(running) < workers:
                number = waiting.pop(0)
                running[number] = _start(*commands[number], threads)
            for number, process in list(running.items()):
                if process.poll() is not None:
                    codes[number] = process.returncode
                    del running[number]
            time.sleep(0.05)
    finally:  # also when this process is told to stop
        _stop(list(running.values()), min(end, time.monotonic() + grace))
    return codes


def _start(log: Path, command: Sequence[str], threads: str) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip


def _stop(processes: "list[subprocess.Popen[bytes]]", end: float) -> None:
    """End what is left of the process groups by then."""
    groups = [process for process in processes if _signal(process.pid, signal.SIGTERM)]
    while groups and time.monotonic() < end:
        for process in groups:
            process.poll()  # a leader that has ended counts until it is waited for
        groups = [process for process in groups if _signal(process.pid, 0)]
        time.sleep(0.05)
    for process in groups:
        _signal(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


def _signal(group: int, number: int) -> bool:
    """Whether there was anything to signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
