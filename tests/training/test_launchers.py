"""Every launcher's processes are counted, by the variables that it sets."""

import os
from datetime import timedelta

import pytest
import torch.distributed as dist
from lightning_fabric.plugins.environments import (
    KubeflowEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from vje_pyro.errors import VJEError
from vje_pyro.training import launchers
from vje_pyro.training.devices import make_fabric, processes_to_start
from vje_pyro.training.launchers import cluster_environment, launch
from vje_pyro.training.processes import meet_again

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_JOB_NAME": "pretrain",
    "SLURM_PROCID": "1",
}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "7", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
LAUNCHED = {
    "torchrun": TORCHRUN,
    "SLURM": SLURM,
    "Open MPI": MPI,
    "MVAPICH": {"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_LOCAL_SIZE": "2"},
    "MPI": {"PMI_SIZE": "2", "PMI_RANK": "1"},
    "jsrun": {"JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1"},
    "A launcher": {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"},
}
ALONE = [
    {},
    SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
    SLURM | {"SLURM_JOB_NAME": "bash"},  # srun --pty bash
    SLURM | {"SLURM_JOB_NAME": "interactive"},  # salloc
    {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "named"},  # salloc --job-name
    {"OMPI_COMM_WORLD_SIZE": "1"},
    {"PMI_SIZE": "1"},
    {"WORLD_SIZE": "1", "RANK": "0"},
    {"WORLD_SIZE": "2"},  # set by hand, for several machines
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of this machine's launchers, and nothing of the test's afterwards."""
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which Fabric takes from the variables
    for name in list(os.environ):
        if name.split("_")[0] in {"SLURM", "OMPI", "PMI", "MV2", "JSM", "LSB", "TORCHELASTIC"}:
            monkeypatch.delenv(name)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "")  # so that what the code under test sets is taken back
        monkeypatch.delenv(name)
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NODEID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return lambda variables: [monkeypatch.setenv(*item) for item in variables.items()]


def fabric(devices, num_nodes=1):
    device = {"accelerator": "cpu", "devices": devices, "num_nodes": num_nodes, "strategy": "auto"}
    device = OmegaConf.create(device | {"precision": "32-true"})
    assert processes_to_start(device) == (devices, "cpu")
    return make_fabric(device)


@pytest.mark.parametrize("by", LAUNCHED)
@pytest.mark.parametrize("devices", [1, 3])
def test_another_number_than_a_launcher_started_is_refused(environment, by, devices):
    environment(LAUNCHED[by])
    wanted = rf"{by}.* started 2 processes, but device.devices={devices} .*: set device.devices=2 "
    with pytest.raises(VJEError, match=wanted):
        fabric(devices)


def test_on_several_machines_both_numbers_are_named(environment):
    environment(TORCHRUN | {"WORLD_SIZE": "6"})
    with pytest.raises(VJEError, match=r"set device.devices=2 device.num_nodes=3"):
        fabric(1)
    environment({"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"})
    for name in TORCHRUN:
        os.environ.pop(name)
    environment(SLURM | {"SLURM_NTASKS": "8"})
    with pytest.raises(VJEError, match=r"SLURM started 8 .*device.devices=4 device.num_nodes=2"):
        fabric(1)


def test_kubeflow_starts_one_on_each_machine(environment):
    environment({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "1"})
    with pytest.raises(VJEError, match=r"set device.devices=1 device.num_nodes=2"):
        fabric(2)
    environment_of = fabric(1, 2).strategy.cluster_environment
    assert isinstance(environment_of, KubeflowEnvironment)
    assert environment_of.global_rank() == 1


@pytest.mark.parametrize("variables", ALONE)
def test_a_process_alone_is_no_launch(environment, variables):
    environment(variables)
    assert launch() is None
    assert fabric(1).world_size == 1
    assert isinstance(cluster_environment(launch()), LightningEnvironment)


def test_tasks_of_slurm_need_no_more_variables_than_srun_sets(environment):
    environment(SLURM)
    slurm = fabric(2).strategy.cluster_environment
    assert isinstance(slurm, SLURMEnvironment)
    assert (slurm.global_rank(), slurm.local_rank(), slurm.node_rank()) == (1, 1, 0)
    assert slurm.main_address == "127.0.0.1"


def test_torchrun_within_slurm_is_torchrun(environment):
    environment(SLURM | TORCHRUN)
    assert isinstance(cluster_environment(launch()), TorchElasticEnvironment)


def test_mpi_within_slurm_is_mpi_and_needs_its_package(environment, monkeypatch):
    environment(SLURM | MPI)
    monkeypatch.setattr(launchers, "_MPI4PY_AVAILABLE", False)
    with pytest.raises(VJEError, match=r"Open MPI started 2 .* pip install mpi4py"):
        fabric(2)


def test_a_variable_without_a_number(environment):
    environment(SLURM | {"SLURM_NTASKS": "two"})
    with pytest.raises(VJEError, match="SLURM_NTASKS=two is not a number"):
        fabric(1)


def test_several_machines_need_a_launcher():
    with pytest.raises(VJEError, match=r"num_nodes=2, but nothing has started .* torchrun or srun"):
        fabric(1, 2)


def test_processes_started_again_meet_under_keys_of_their_own(monkeypatch):
    """torchrun keeps its store: what it holds of an earlier attempt stays unread."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    earlier = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "RANK": "0"}
    again = {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in (earlier | again | {"WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    before = set(store.list_keys())
    meet_again("gloo", timedelta(seconds=60))
    try:
        dist.barrier()
        written = set(store.list_keys()) - before
    finally:
        dist.destroy_process_group()
    own = {key for key in written if "attempt_2/" in key}
    assert own
    assert not any("default_pg" in key for key in written - own)
