"""What processes send each other in a step: by formula, and as counted in a run over gloo.

Every collective goes through torch's dispatcher, those of DistributedDataParallel too, so a
dispatch mode sees all of them with their tensors. Counted are the bytes of the tensors that each
process gives to a collective; what a ring sends of them follows (docs/scaling.md).

    python benchmarks/communication.py [--processes 2] [--out FILE]
"""

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from default_vje import small_vje
from lightning_fabric import Fabric
from record import write_record
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from vje_pyro.inference import SlicedEppsPulley
from vje_pyro.training.activation_checkpointing import checkpoint_activations
from vje_pyro.training.step import Stepper

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "communication.json"
DIRECTIONS, POINTS, VIEWS = 256, 17, 2
KINDS = {"allreduce_": "all_reduce", "allgather_": "all_gather", "broadcast_": "broadcast"}


class Collectives(TorchDispatchMode):
    """Calls and bytes of every kind of collective in this context."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = dict.fromkeys(KINDS.values(), 0)
        self.bytes: dict[str, int] = dict.fromkeys(KINDS.values(), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        space, _, name = func._schema.name.partition("::")
        if space == "c10d" and name in KINDS:
            # allgather_(outputs, inputs, …); of the others the first argument is what is sent.
            sent = args[1] if name == "allgather_" else args[0]
            self.calls[KINDS[name]] += 1
            self.bytes[KINDS[name]] += sum(
                t.nbytes for t in tree_iter(sent) if isinstance(t, Tensor)
            )
        return func(*args, **(kwargs or {}))


def formula(method: nn.Module, aggregate: bool) -> dict[str, int]:
    """Bytes that a process gives to collectives in a step, by kind; float32."""
    gradients = sum(p.nbytes for p in method.parameters() if p.requires_grad)
    buffers = sum(b.nbytes for b in method.buffers())
    directions = 4 * method.num_features * DIRECTIONS if aggregate else 0
    characteristic = 2 * 2 * DIRECTIONS * (POINTS // 2) * 4 if aggregate else 0  # there and back
    return {
        "all_reduce": gradients + characteristic,
        "all_gather": 0,
        "broadcast": buffers + directions,
    }


SCENARIOS = {"plain": (False, False), "sigreg": (True, False), "sigreg_checkpointed": (True, True)}
"""Aggregate term, activation checkpointing."""


def count(fabric: Fabric, path: Path) -> None:
    """Count a third step of every scenario: the first two arrange buckets."""
    found = {}
    for name, (aggregate, checkpointed) in SCENARIOS.items():
        epps_pulley = SlicedEppsPulley(num_directions=DIRECTIONS, num_points=POINTS)
        method = small_vje(epps_pulley if aggregate else None)
        if checkpointed:
            checkpoint_activations(method.encoder)
        stepper = Stepper(method, partial(torch.optim.SGD, lr=0.1), fabric)
        views = torch.randn(VIEWS, 4, 3, 16, 16)
        for _ in range(3):
            with Collectives() as collectives:
                stepper.step(views)
        found[name] = {
            "calls": collectives.calls,
            "bytes": collectives.bytes,
            "formula": formula(method, aggregate),
        }
    if fabric.is_global_zero:
        path.write_text(json.dumps(found))
    dist.barrier()


def measure(processes: int) -> dict[str, Any]:
    """Counts of the first process, by scenario."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        pid = os.fork()  # a process that has launched others is of no further use
        if not pid:
            try:
                fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp_fork")
                fabric.launch(count, path)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def main() -> None:
    """Parse the command line, count, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.processes)
    write_record(options.out, "communication", processes=options.processes, scenarios=figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
