"""Time of a run: all of it, and the part that was spent on training steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds since the start of a run; ``before`` are those that earlier processes took."""

    def __init__(self, before: float = 0.0) -> None:
        self._origin = time.perf_counter() - before
        self._lap = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.perf_counter() - self._origin

    def lap(self) -> float:
        """Seconds since the last call of this method, pauses left out."""
        now = time.perf_counter()
        lap, self._lap = now - self._lap, now
        return lap

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count the block (a checkpoint, monitoring) in the lap."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._lap += time.perf_counter() - start
