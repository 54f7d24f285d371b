"""A command with a deadline: asked to stop before it, made to stop at it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 30.0
"""Seconds between asking and making: time to write a checkpoint."""


def run_with_timeout(
    command: Sequence[str],
    seconds: float,
    log: Path,
    grace: float = GRACE,
    environment: Mapping[str, str] | None = None,
) -> int | None:
    """Run a command, and all that it starts, for so long at most.

    ``grace`` seconds before the end the whole process group gets SIGTERM, upon which a training
    writes its checkpoint; at the end SIGKILL.

    Args:
        command: Program and arguments.
        seconds: Time that there is.
        log: File that takes the output, at its end.
        grace: Seconds kept for stopping.
        environment: Of the command; this process's own when None.

    Returns:
        Exit code, or None if the time ended first.
    """
    end = time.monotonic() + seconds
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        return process.wait(timeout=max(0.0, seconds - grace))
    except subprocess.TimeoutExpired:
        return None
    finally:  # also when this process is told to stop
        _stop(process, min(end, time.monotonic() + grace))


def _stop(process: subprocess.Popen, end: float) -> None:
    """End what is left of the process group by then."""
    _signal(process.pid, signal.SIGTERM)
    while time.monotonic() < end and _signal(process.pid, 0):
        process.poll()  # a leader that has ended counts until it is waited for
        time.sleep(0.1)
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
