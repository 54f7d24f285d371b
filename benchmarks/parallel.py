"""Commands side by side: several small trainings share one GPU, each in a process of its own."""

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor


def run_all(commands: Sequence[Sequence[str]], workers: int, minutes: float = float("inf")) -> int:
    """Run commands, so many at a time, started in the order given.

    The processor's cores are shared out among them, so that they do not wait for each other.

    Args:
        commands: Program and arguments of each.
        workers: How many run at a time; at least one.
        minutes: None is started after so many.

    Returns:
        How many failed.
    """
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    start = time.monotonic()

    def run(command: Sequence[str]) -> int:
        if time.monotonic() - start > 60 * minutes:
            return 0
        return subprocess.run(command, env=environment, check=False).returncode

    with ThreadPoolExecutor(workers) as pool:
        return sum(code != 0 for code in pool.map(run, commands))
