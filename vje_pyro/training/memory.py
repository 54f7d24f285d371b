"""The most memory that a run has held."""

import sys

import torch

MIB = 2**20


def peak_memory(device: torch.device) -> float | None:
    """Peak memory in MiB since the process started.

    On CUDA what torch has held on ``device``, without its cache; elsewhere the resident memory of
    the whole process, or None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere
