"""The devices that a run computes on, and how a batch is shared among their processes."""

import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vje_pyro.errors import VJEError
from vje_pyro.training.launchers import cluster_environment, launch

logger = logging.getLogger(__name__)

STRATEGIES = ("auto", "ddp")
TIMEOUT_S = 600
MAX_PROCESSES_PER_CORE = 4


def processes_to_start(device: DictConfig) -> tuple[int, str]:
    """Processes on each machine, and the accelerator, that a ``device`` configuration asks for.

    Raises:
        VJEError: A device, or that many, is absent, the strategy is unknown, or a launcher has
            started another number of processes, or none those of several machines.
    """
    accelerator, devices = _choose(device)
    number = len(devices) if isinstance(devices, list) else devices
    if started := launch():
        started.check(number, device.num_nodes)
    elif device.num_nodes > 1:
        raise VJEError(
            f"device.num_nodes={device.num_nodes}, but nothing has started the processes of "
            f"several machines: start the run with torchrun or srun (docs/how-to/scaling.md)."
        )
    return number, accelerator


def make_fabric(device: DictConfig) -> Fabric:
    """Fabric for a ``device`` configuration, not launched; its processes have been started.

    Raises:
        VJEError: As :func:`processes_to_start`, or Fabric refuses the combination.
    """
    accelerator, devices = _choose(device)
    precision = device.precision
    if precision == "auto":
        precision = "bf16-mixed" if _has_fast_bfloat16(accelerator) else "32-true"
    choice = {"accelerator": accelerator, "devices": devices, "num_nodes": device.num_nodes}
    try:
        choice["plugins"] = cluster_environment(launch())
        fabric = Fabric(**choice, strategy=device.strategy, precision=precision)
        if isinstance(fabric.strategy, DDPStrategy):
            timeout = timedelta(seconds=device.get("timeout_s") or TIMEOUT_S)
            # As views of the buckets that are sent, gradients need their memory once, not twice.
            ddp = DDPStrategy(timeout=timeout, gradient_as_bucket_view=True)
            fabric = Fabric(**choice, strategy=ddp, precision=precision)
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        why = " ".join(str(error).split())
        raise VJEError(f"device={dict(device)} cannot be used: {why}") from error
    return fabric


def _choose(device: DictConfig) -> tuple[str, int | list[int]]:
    """Accelerator and devices."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.accelerator, True):
        raise VJEError(
            f"device.accelerator={device.accelerator}, but this machine has none that torch can "
            f"use: choose device.accelerator=cpu or auto."
        )
    accelerator = device.accelerator
    if accelerator == "auto":
        accelerator = next((name for name, there in available.items() if there), "cpu")
    if device.strategy not in STRATEGIES:
        why = " (DataParallel splits Pyro's plates)" if device.strategy == "dp" else ""
        raise VJEError(
            f"device.strategy={device.strategy} is not supported{why}: choose one of {STRATEGIES}; "
            "each trains several devices with DistributedDataParallel."
        )
    return accelerator, _devices(device.devices, accelerator)


def _devices(chosen: Any, accelerator: str) -> int | list[int]:
    """The number of devices, or their indices, as ``device.devices`` may say it."""
    devices = OmegaConf.to_container(chosen) if OmegaConf.is_config(chosen) else chosen
    gpus = torch.cuda.device_count() if accelerator == "cuda" else 1
    if devices == "auto" or (devices == -1 and accelerator != "cpu"):
        return gpus
    if type(devices) is int and devices >= 1:
        if accelerator == "cuda" and devices > gpus:
            raise VJEError(
                f"device.devices={devices}, but this machine has {gpus} GPU(s) that torch can "
                f"see: set device.devices={gpus}, or check CUDA_VISIBLE_DEVICES."
            )
        return devices
    if isinstance(devices, list) and accelerator != "cpu" and devices:
        if set(devices) <= set(range(gpus)) and len(set(devices)) == len(devices):
            return devices
        raise VJEError(
            f"device.devices={devices}, but the {gpus} GPU(s) that torch can see on this machine "
            f"are {list(range(gpus))}: name each at most once, or check CUDA_VISIBLE_DEVICES."
        )
    more = "" if accelerator == "cpu" else ", a list of their indices, or -1 for all"
    raise VJEError(
        f"device.devices={chosen!r} is not a choice of devices for the accelerator {accelerator}: "
        f"give their number (of processes on a CPU), from 1 on{more}, or auto."
    )


def cores() -> int | None:
    """CPU cores that this process may use; None where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def check_cores(processes: int, accelerator: str) -> None:
    """Say that processes on a CPU share its cores; VJEError for far too many."""
    here = cores()
    if accelerator != "cpu" or here is None or processes <= here:
        return
    if processes > MAX_PROCESSES_PER_CORE * here:
        raise VJEError(
            f"device.devices={processes}, but this machine has {here} CPU core(s) for them: set "
            f"device.devices={here} or less."
        )
    logger.warning(
        "%d processes share %d CPU core(s): starting them and every step take longer than with "
        "device.devices=%d.",
        processes,
        here,
        here,
    )


def check_batch(batch_size: int, world_size: int, accumulate: int) -> None:
    """Refuse a batch that its processes, or the parts of each one's share, cannot share equally.

    Args:
        batch_size: Images of a step, over all processes.
        world_size: Number of processes.
        accumulate: Parts that each process splits its share into.

    Raises:
        VJEError: With both numbers, and what to set.
    """
    if world_size > batch_size:
        raise VJEError(
            f"{world_size} processes, but loader.batch_size={batch_size} images in a batch, which "
            f"all processes share: set loader.batch_size to a multiple of {world_size}, or lower "
            f"device.devices or device.num_nodes."
        )
    if batch_size % world_size:
        raise VJEError(
            f"loader.batch_size={batch_size} cannot be divided equally among {world_size} "
            f"processes: set loader.batch_size={batch_size // world_size * world_size}, or another "
            f"device.devices or device.num_nodes."
        )
    share = batch_size // world_size
    if accumulate < 1 or share % accumulate:
        raise VJEError(
            f"training.accumulate={accumulate} does not divide the {share} images that each of "
            f"{world_size} process(es) has of a batch of {batch_size}: set it to a divisor of "
            f"{share}, or change loader.batch_size."
        )


def _has_fast_bfloat16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Twice as fast with either kind of instructions (docs/appendix/performance.md), slower without.
    amx, avx512 = torch.cpu._is_amx_tile_supported, torch.cpu._is_avx512_bf16_supported
    return accelerator == "cpu" and (amx() or avx512())


def synchronize_batch_norm(method: nn.Module, fabric: Fabric) -> None:
    """Let every batch norm in ``method`` normalise with the statistics of all processes' batches.

    In place, by torch's ``SyncBatchNorm``, or timm's, which keep checkpoints fitting; it works on
    CUDA only, and elsewhere says so. The processes of ``fabric``, launched, have shares of equal
    size.
    """
    if fabric.world_size == 1:
        return
    if fabric.device.type != "cuda":
        logger.warning(
            "device.sync_batch_norm=true has no effect on %s: batch norms take the statistics of "
            "each process's images.",
            fabric.device.type,
        )
        return
    try:
        from timm.layers import convert_sync_batchnorm as convert
    except ImportError:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
    convert(method)
    for child in method.modules():
        if isinstance(child, nn.SyncBatchNorm):  # graphs end at collectives
            child.forward = torch.compiler.disable(child.forward)  # type: ignore[method-assign]


def peak_memory(device: torch.device) -> float | None:
    """Peak memory in MiB since the process started; None where the system does not tell.

    On CUDA what torch has held, without its cache; elsewhere the process's resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage tells a child its parent's peak, if that is more
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
