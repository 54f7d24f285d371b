"""Time taken fairly: in turns, as ratios of neighbours in time, with quartiles."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro.evaluation import Figure

HOST_TRANSFERS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")

Times = dict[str, list[float]]


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    blocks: int,
    steps: int = 1,
    synchronise: Callable[[], None] = lambda: None,
) -> Times:
    """Seconds of one call of each, a value a block; who is first in a block changes.

    Args:
        runs: What is timed, by name; each is called once before, to warm up.
        blocks: How often each has its turn.
        steps: Calls in a turn.
        synchronise: Waits for the device.
    """
    times: Times = {name: [] for name in runs}
    for run in runs.values():
        run()
    for number in range(blocks):
        for name in sorted(runs, reverse=bool(number % 2)):
            synchronise()
            start = time.perf_counter()
            for _ in range(steps):
                runs[name]()
            synchronise()
            times[name].append((time.perf_counter() - start) / steps)
    return times


def spread(values: Sequence[float], of: str) -> Figure:
    """Median and quartiles of repeated measurements."""
    low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return Figure(middle, low, high, len(values), f"quartiles over {of}")


def beside(times: Mapping[str, Sequence[float]], name: str, other: str) -> Figure:
    """Ratio of the times of two that ran in turns, block by block."""
    pairs = zip(times[name], times[other], strict=True)
    return spread([a / b for a, b in pairs], "pairs of blocks")


class Stopwatch:
    """Time between marks: on a GPU of the device's work, without waiting for it.

    Starts when it is made; each mark ends a piece.
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


@contextmanager
def counted_transfers() -> Iterator[list[str]]:
    """Names of the tensor methods that moved a value to the host inside the block."""
    moved: list[str] = []
    originals = {name: getattr(Tensor, name) for name in HOST_TRANSFERS}
    for name, original in originals.items():

        def spy(self: Tensor, *args: object, _n: str = name, _o: Callable = original) -> object:
            moved.append(_n)
            return _o(self, *args)

        setattr(Tensor, name, spy)
    try:
        yield moved
    finally:
        for name, original in originals.items():
            setattr(Tensor, name, original)


def count_synchronisations(calls: Sequence[Callable[[], None]]) -> int:
    """How often the host waits for the device in these calls, as CUDA's debug mode warns."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for call in calls:
                call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def describe(device: torch.device) -> dict[str, Any]:
    """Name, memory and software of a device."""
    if device.type != "cuda":
        amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        bfloat16 = "AMX" if amx else "AVX-512" if avx512 else "emulated"
        return {"name": device.type, "threads": torch.get_num_threads(), "bfloat16": bfloat16}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }
