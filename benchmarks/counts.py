"""Bytes of a step: what it holds in memory, and what processes send each other.

The page is docs/how-to/scaling.md.

    python -m benchmarks.counts memory           # docs/results/benchmarks/memory.json
    python -m benchmarks.counts communication    # docs/results/benchmarks/communication.json

*Memory*: the bytes of all live tensors at every operation, forward and back, in one process: for
the bare encoder, for VJE's step, and for VJE's step with activation checkpointing, with the same
weights and optimiser state lying there. Workspace inside a kernel is not counted.

*Communication*: every collective goes through torch's dispatcher, those of DistributedDataParallel
too, so a dispatch mode sees all of them with their tensors. Counted are the bytes of the tensors
that each process gives to a collective; what a ring sends of them follows.
"""

import argparse
import copy
import json
import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step import default_vje, small_vje
from vje_pyro.atomic import write_atomic
from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.inference import SlicedEppsPulley
from vje_pyro.models import VJE
from vje_pyro.provenance import origin
from vje_pyro.training.activation_checkpointing import checkpoint_activations
from vje_pyro.training.step import Stepper

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks"

# ------------------------------------------------------------------------------------------ memory

ENCODERS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "small_resnet-32": (SmallResNet, 32, 64),
    "resnet18-32": (partial(ResNet, "resnet18", image_size=32), 32, 16),
    "resnet50-224": (partial(ResNet, "resnet50"), 224, 4),
}
"""What makes the encoder, the side of an image, and the batch size."""


class LiveTensors(TorchDispatchMode):
    """Bytes of the live storages that operations in this context touched, and their peak."""

    def __init__(self, *there: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        for tensor in there:
            self._note(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._note(value)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak(method: VJE, views: Tensor, step: Callable[[], None], state: list[Tensor]) -> int:
    """Largest bytes alive during ``step``, weights, states and views included."""
    with LiveTensors(*method.parameters(), *method.buffers(), *state, views) as live:
        step()
    return live.peak


def memory(name: str) -> dict[str, Any]:
    """Bytes of one encoder's steps, and of what they are made of."""
    make, side, batch = ENCODERS[name]
    torch.manual_seed(0)
    plain = default_vje(make()).to(memory_format=torch.channels_last)
    views = torch.randn(2, batch, 3, side, side)
    found: dict[str, Any] = {}
    for mode in ("kept", "checkpointed"):
        method = copy.deepcopy(plain)
        if mode == "checkpointed":
            checkpoint_activations(method.encoder)
        fabric = Fabric(accelerator="cpu", devices=1)
        stepper = Stepper(method, partial(torch.optim.AdamW, fused=True), fabric)
        stepper.step(views)  # makes the optimiser's state

        def bound(method: VJE = method) -> None:
            sum(method.encoder(view).square().mean() for view in views).backward()
            method.zero_grad(set_to_none=True)

        state = [v for s in stepper.optimizer.state.values() for v in s.values()]
        found[mode] = {
            "bound": peak(method, views, bound, state),
            "step": peak(method, views, partial(stepper.step, views), state),
            "activations_per_image_and_view": kept(method.encoder, views[0]) / batch,
        }
    weights = sum(p.nbytes for p in plain.parameters())
    per_image = found["kept"]["activations_per_image_and_view"]
    formula = 4 * weights + views.nbytes + 2 * batch * per_image
    ceiling = 1.05 * found["kept"]["bound"] + views.nbytes
    with torch.device("meta"):
        network, image = make(), torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as flops:
        network(image).sum().backward()
    return {
        "batch_size": batch,
        "image_size": side,
        "parameters": sum(p.numel() for p in plain.parameters()),
        "encoder_parameters": sum(p.numel() for p in plain.encoder.parameters()),
        "weights_bytes": weights,
        "views_bytes": views.nbytes,
        "flops_per_image_and_view": flops.get_total_flops(),
        **{mode: {k: round(v) for k, v in values.items()} for mode, values in found.items()},
        "step_over_bound": found["kept"]["step"] / found["kept"]["bound"],
        "step_over_1.05_bound_plus_views": found["kept"]["step"] / ceiling,
        "formula_bytes": round(formula),
        "step_over_formula": found["kept"]["step"] / formula,
        "checkpointed_step_over_step": found["checkpointed"]["step"] / found["kept"]["step"],
    }


def kept(encoder: nn.Module, images: Tensor) -> int:
    """Bytes that the encoder keeps for the backward pass, without weights and images."""
    found: dict[int, Tensor] = {}  # holding them keeps their addresses from being used again

    def pack(tensor: Tensor) -> Tensor:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = encoder(images)
    there = {t.untyped_storage().data_ptr() for t in (images, *encoder.parameters())}
    del output
    return sum(t.untyped_storage().nbytes() for at, t in found.items() if at not in there)


# ----------------------------------------------------------------------------------- communication

DIRECTIONS, POINTS, VIEWS = 256, 17, 2
KINDS = {"allreduce_": "all_reduce", "allgather_": "all_gather", "broadcast_": "broadcast"}
SCENARIOS = {"plain": (False, False), "sigreg": (True, False), "sigreg_checkpointed": (True, True)}
"""Aggregate term, activation checkpointing."""


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
            sent = [t for t in tree_iter(args[name == "allgather_"]) if isinstance(t, Tensor)]
            self.calls[KINDS[name]] += 1
            self.bytes[KINDS[name]] += sum(t.nbytes for t in sent)
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


def _count(fabric: Fabric, path: Path) -> None:
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


def communication(processes: int = 2) -> dict[str, Any]:
    """Counts of the first process, by scenario."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        pid = os.fork()  # a process that has launched others is of no further use
        if not pid:
            try:
                fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp_fork")
                fabric.launch(_count, path)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, count, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts")
    parser.add_argument("what", choices=["memory", "communication"])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    content: dict[str, Any] = {"benchmark": options.what}
    if options.what == "memory":
        with pyro.validation_enabled(False):
            encoders = {name: memory(name) for name in ENCODERS}
        content |= {"precision": "float32", "optimizer": "AdamW", "encoders": encoders}
    else:
        content |= {"processes": 2, "scenarios": communication()}
    content |= origin()
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomic(options.out / f"{options.what}.json", text)
    print(text)


if __name__ == "__main__":
    main()
