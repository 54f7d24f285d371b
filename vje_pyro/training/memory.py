"""The most memory that a run has held."""

import sys
from pathlib import Path

import torch

MIB = 2**20


def peak_memory(device: torch.device) -> float | None:
    """Peak memory in MiB since the process started.

    On CUDA what torch has held on ``device``, without its cache; elsewhere the resident memory of
    the whole process, or None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage tells a child its parent's peak, if that is more
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere
