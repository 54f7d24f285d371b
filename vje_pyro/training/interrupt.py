"""Ctrl-C and SIGTERM as a request to stop after the step that is running."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training stopped on request, after a checkpoint; ``exit_code`` is the shell's convention.

    Args:
        signum: The signal.
        step: Steps done.
        checkpoint: Where the run continues.
    """

    def __init__(self, signum: int, step: int, checkpoint: Path) -> None:
        self.exit_code = 128 + signum
        self.step = step
        self.checkpoint = checkpoint
        super().__init__(
            f"Stopped by {signal.Signals(signum).name} after step {step}; the checkpoint is "
            f"{checkpoint}. Continue with: vje train resume={checkpoint.parents[1]}"
        )


class InterruptRequest:
    """Context in which the first SIGINT or SIGTERM is noted; a later one stops at once.

    What comes within ``same_s`` seconds is the same request, from a terminal and a launcher, say.
    Outside the main thread, where Python allows no signal handlers, nothing is caught.
    """

    signals = (signal.SIGINT, signal.SIGTERM)
    same_s = 1.0

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "InterruptRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._since = signum, time.monotonic()
        elif time.monotonic() - self._since >= self.same_s:
            # Even where a shell told its background job to ignore it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signum)
