"""Who started this process, and how many beside it: torchrun, SLURM, MPI, LSF or Kubeflow."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    KubeflowEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.plugins.environments.mpi import _MPI4PY_AVAILABLE

from vje_pyro.errors import VJEError


@dataclass(frozen=True)
class Launch:
    """Processes that a launcher has started."""

    by: str  # the launcher
    number: int  # of processes, on all machines
    per_machine: int
    environment: type[ClusterEnvironment]  # tells Fabric each process's rank, and where they meet

    def check(self, devices: int, num_nodes: int) -> None:
        """Raise :class:`VJEError` unless the configuration asks for just these processes."""
        split = self.per_machine < self.number and devices != self.per_machine
        if devices * num_nodes != self.number or split:
            machines = max(1, self.number // self.per_machine)
            raise VJEError(
                f"{self.by} started {self.number} processes, but device.devices={devices} and "
                f"device.num_nodes={num_nodes} are {devices} on each of {num_nodes} machine(s): "
                f"set device.devices={self.per_machine} device.num_nodes={machines}, or start as "
                f"many as these."
            )
        if self.environment is MPIEnvironment and not _MPI4PY_AVAILABLE:
            raise VJEError(
                f"{self.by} started {self.number} processes, but without the package mpi4py they "
                f"cannot meet: pip install mpi4py, or start them with torchrun or srun."
            )


def launch() -> Launch | None:
    """The launch that this process is part of; None where it was started alone.

    Raises:
        VJEError: A launcher's variable that should hold a number holds none.
    """
    return next(filter(None, _launches()), None)


def _launches() -> Iterator[Launch | None]:
    # torchrun and mpirun also run inside a SLURM job, whose variables then say less.
    yield _torchrun()
    for by, name in (("Open MPI", "OMPI_COMM_WORLD"), ("MVAPICH", "MV2_COMM_WORLD")):
        yield _counted(by, f"{name}_SIZE", f"{name}_LOCAL_SIZE", MPIEnvironment)
    yield _slurm()
    yield _counted("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_SIZE", LSFEnvironment)
    yield _counted("MPI", "PMI_SIZE", "MPI_LOCALNRANKS", MPIEnvironment)
    yield _kubeflow()


def cluster_environment(launch: Launch | None) -> ClusterEnvironment:
    """What tells Fabric the rank of this process, and where the processes meet."""
    if launch is None:
        return LightningEnvironment()
    if launch.number == launch.per_machine:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if launch.environment is SLURMEnvironment:  # what Fabric asks for and srun does not always set
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(launch.per_machine))
        rank = _number("SLURM_PROCID") or 0
        os.environ.setdefault("SLURM_NODEID", str(rank // launch.per_machine))
        os.environ.setdefault("SLURM_LOCALID", str(rank % launch.per_machine))
    return launch.environment()


def _torchrun() -> Launch | None:
    if not dist.is_torchelastic_launched():
        return None
    number = _number("WORLD_SIZE") or 1
    per_machine = _number("LOCAL_WORLD_SIZE") or number
    return Launch("torchrun", number, per_machine, TorchElasticEnvironment)


def _counted(
    by: str, number: str, local: str, environment: type[ClusterEnvironment]
) -> Launch | None:
    """The launch by one that sets two variables: processes in all, and on this machine."""
    several = _several(number)
    return Launch(by, several, _number(local) or several, environment) if several else None


def _slurm() -> Launch | None:
    # In a shell that salloc has opened the number is that of the job, and no task has been started.
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    several = _several("SLURM_NTASKS")
    if several is None or interactive or "SLURM_PROCID" not in os.environ:
        return None
    per_machine = _number("SLURM_NTASKS_PER_NODE") or several // (_number("SLURM_NNODES") or 1)
    return Launch("SLURM", several, max(1, per_machine), SLURMEnvironment)


def _kubeflow() -> Launch | None:
    """The variables of torch.distributed alone: set by Kubeflow, DeepSpeed or by hand."""
    several = _several("WORLD_SIZE")
    if several is None or "RANK" not in os.environ:
        return None
    if "LOCAL_RANK" not in os.environ:
        return Launch("Kubeflow (WORLD_SIZE)", several, 1, KubeflowEnvironment)
    local = _number("LOCAL_WORLD_SIZE") or several
    return Launch("A launcher (WORLD_SIZE)", several, local, TorchElasticEnvironment)


def _several(name: str) -> int | None:
    """More processes than one; a launcher's only process is as good as one started alone."""
    number = _number(name)
    return number if number is not None and number > 1 else None


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]+", value):
        raise VJEError(f"{name}={value} is not a number of processes: unset it or correct it.")
    return int(value)
