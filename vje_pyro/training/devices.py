"""The devices that a run computes on, and how a batch is shared among their processes."""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from vje_pyro.errors import VJEError

STRATEGIES = ("auto", "ddp")
TIMEOUT_S = 600


def make_fabric(device: DictConfig) -> Fabric:
    """Fabric for a ``device`` configuration, not launched.

    Raises:
        VJEError: If a device, or that many, is absent, the strategy is unknown to the training
            loop, another number of processes was started, or Fabric refuses the combination.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.accelerator, True):
        raise VJEError(
            f"device.accelerator={device.accelerator}, but this machine has none that torch can "
            f"use: choose device.accelerator=cpu or auto."
        )
    accelerator = device.accelerator
    if accelerator == "auto":
        accelerator = next((name for name, there in available.items() if there), "cpu")
    precision = device.precision
    if precision == "auto":
        precision = "bf16-mixed" if _has_fast_bfloat16(accelerator) else "32-true"
    _check(device, accelerator)
    choice = {"accelerator": accelerator, "devices": device.devices, "num_nodes": device.num_nodes}
    try:
        fabric = Fabric(**choice, strategy=device.strategy, precision=precision)
        if isinstance(fabric.strategy, DDPStrategy):
            fabric = Fabric(**choice, strategy=_ddp(device), precision=precision)
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        raise VJEError(f"device={dict(device)} cannot be used: {error}") from error
    _check_started(fabric, device)
    return fabric


def _ddp(device: Any) -> DDPStrategy:
    timeout = timedelta(seconds=device.get("timeout_s") or TIMEOUT_S)
    # As views of the buckets that are sent, gradients need their memory once, not twice.
    return DDPStrategy(timeout=timeout, gradient_as_bucket_view=True)


def _check(device: Any, accelerator: str) -> None:
    if device.strategy not in STRATEGIES:
        why = " (DataParallel splits Pyro's plates)" if device.strategy == "dp" else ""
        raise VJEError(
            f"device.strategy={device.strategy} is not supported{why}: choose one of {STRATEGIES}; "
            "each trains several devices with DistributedDataParallel."
        )
    there = torch.cuda.device_count() if accelerator == "cuda" else None
    if there is not None and isinstance(device.devices, int) and device.devices > there:
        raise VJEError(
            f"device.devices={device.devices}, but this machine has {there} GPU(s) that torch can "
            f"see: set device.devices={there}, or check CUDA_VISIBLE_DEVICES."
        )


def _check_started(fabric: Fabric, device: Any) -> None:
    """Processes that torchrun started must be those of this run."""
    if not dist.is_torchelastic_launched():
        return
    started = int(os.environ["WORLD_SIZE"])
    if started != fabric.world_size:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", started))
        raise VJEError(
            f"torchrun started {started} processes, but device.devices={device.devices} and "
            f"device.num_nodes={device.num_nodes} make {fabric.world_size}: set "
            f"device.devices={local} device.num_nodes={started // local}."
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
            f"loader.batch_size={batch_size} cannot be shared equally among {world_size} "
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
    # With the instructions of either kind a step takes about half as long (docs/performance.md);
    # without them bfloat16 convolutions are emulated, and were slower than float32 in every trial.
    amx, avx512 = torch.cpu._is_amx_tile_supported, torch.cpu._is_avx512_bf16_supported
    return accelerator == "cpu" and (amx() or avx512())
