"""Time between marks: on a GPU of the device's work, without waiting for it."""

import time
from collections import defaultdict
from typing import Any

import torch


class Stopwatch:
    """Starts when it is made; each mark ends a piece.

    Args:
        device: Whose time is taken; on CUDA marks are events in the stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks = [("", self._now())]

    def mark(self, name: str) -> None:
        """End a piece; pieces of the same name add up."""
        self._marks.append((name, self._now()))

    def milliseconds(self) -> dict[str, float]:
        """Time of every piece by name; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        total: dict[str, float] = defaultdict(float)
        for (_, start), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            total[name] += start.elapsed_time(end) if self._on_gpu else 1000 * (end - start)
        return dict(total)

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
