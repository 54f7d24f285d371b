"""The jobs of a sweep: one that fails is named at the end, and does not end the others."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vje_pyro.errors import VJEError, first_line, for_user


class Sweep:
    """What became of the jobs of a sweep."""

    def __init__(self) -> None:
        self.jobs = 0
        self.failed: list[str] = []
        self._process = os.getpid()

    @contextmanager
    def job(self, number: int, overrides: Sequence[str]) -> Iterator[None]:
        """The block is a job; its error is printed, and noted. An interruption passes.

        Args:
            number: Of the job, from 0.
            overrides: What it has of its own.

        Raises:
            VJEError: The job fails in another process, where it cannot be noted.
        """
        name = f"job {number} ({' '.join(overrides)})"
        self.jobs += 1
        try:
            yield
        except Exception as error:
            words = for_user(error)
            if words is None:
                traceback.print_exc()
                words = first_line(error)
            if os.getpid() != self._process:  # a launcher's, which hands the error back
                raise VJEError(f"{name}: {words}") from error
            print(f"error: {words}", file=sys.stderr)
            self.failed.append(f"{name}: {words}")

    def exit_code(self) -> int:
        """Name the jobs that failed; 2 where there is one, else 0."""
        if not self.failed:
            return 0
        print(f"error: {len(self.failed)} of {self.jobs} jobs failed:", file=sys.stderr)
        for line in self.failed:
            print(f"  {line}", file=sys.stderr)
        return 2
