"""What a step holds in memory: by formula, and as measured on the CPU.

Counts the bytes of all live tensors at every operation, forward and back, in one process: for the
bare encoder (forward and backward of every view), for VJE's step, and for VJE's step with
activation checkpointing, with the same weights and optimiser state lying there. Workspace inside a
kernel is not counted.

    python benchmarks/memory.py [--batch-size 64] [--out FILE]
"""

import argparse
import copy
import json
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from default_vje import default_vje
from lightning_fabric import Fabric
from record import write_record
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode
from vje_pyro.models import VJE

from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.training.activation_checkpointing import checkpoint_activations
from vje_pyro.training.step import Stepper

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "memory.json"
MIB = 2**20
ENCODERS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "small_resnet-32": (SmallResNet, 32, 1),
    "resnet18-32": (partial(ResNet, "resnet18", image_size=32), 32, 4),
    "resnet50-224": (partial(ResNet, "resnet50"), 224, 16),
}
"""What makes the encoder, the side of an image, and what the batch size is divided by."""


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


def measure(name: str, batch_size: int) -> dict[str, Any]:
    """Bytes of one encoder's steps, and of what they are made of."""
    make, side, divisor = ENCODERS[name]
    batch = max(2, batch_size // divisor)
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

        def step(stepper: Stepper = stepper) -> None:
            stepper.step(views)

        state = [v for s in stepper.optimizer.state.values() for v in s.values()]
        found[mode] = {
            "bound": peak(method, views, bound, state),
            "step": peak(method, views, step, state),
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


def main() -> None:
    """Parse the command line, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with pyro.validation_enabled(False):
        figures = {name: measure(name, options.batch_size) for name in options.encoders}
    settings = {"precision": "float32", "optimizer": "AdamW"}
    write_record(options.out, "memory", **settings, encoders=figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
