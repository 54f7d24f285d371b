"""VJE trained by one, two and four processes on the same batches, views and noise.

Usage: ``python several.py DIRECTORY``; torch is imported once, then children are forked. Writes
``DIRECTORY/<processes>.pt``: by scenario the first step's gradients, the final weights and buffers.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from torch import nn

from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.guides import DiagonalNormal
from vje_pyro.inference import SlicedEppsPulley
from vje_pyro.models import VJE
from vje_pyro.training.activation_checkpointing import checkpoint_activations
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import Stepper

STEPS, BATCH, SIDE, D = 4, 32, 8, 16
ADAMW = partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-2, fused=True)
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


class Plain(nn.Module):
    """An encoder without batch norm."""

    num_features = D

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(8 * 3 * 3, D)

    def forward(self, images):
        return self.head(self.layers(images))


@dataclass(frozen=True)
class Scenario:
    """A method, an optimiser, and how a step is taken."""

    optimizer: partial = SGD
    accumulate: int = 1
    aggregate: type | None = None
    checkpointed: bool = False

    def method(self):
        torch.manual_seed(0)
        method = VJE(
            Plain(),
            partial(DiagonalNormal, hidden_features=24, num_layers=0),
            partial(SphericalStudentT, df=1.0),
            partial(RadialStudentT, scale=1.0, df=1.0),
            embedding_norm=False,
            aggregate=self.aggregate and self.aggregate(weight=0.01, num_directions=8),
        )
        if self.checkpointed:
            checkpoint_activations(method.encoder)
        return method


SCENARIOS = {
    "plain": Scenario(),
    "plain-adamw": Scenario(optimizer=ADAMW),
    "plain-accumulated": Scenario(accumulate=4),
    "checkpointed": Scenario(checkpointed=True),
    "sigreg": Scenario(aggregate=SlicedEppsPulley),
    "sigreg-accumulated": Scenario(aggregate=SlicedEppsPulley, accumulate=2),
}


def run(scenario, fabric):
    """Gradients of the first step, and the state after the last."""
    method = scenario.method()
    stepper = Stepper(method, scenario.optimizer, fabric, accumulate=scenario.accumulate)
    generator = torch.Generator().manual_seed(1)
    contrast = torch.randn(STEPS, 1, BATCH, 1, 1, 1, generator=generator).exp()
    views = contrast * torch.randn(STEPS, 2, BATCH, 3, SIDE, SIDE, generator=generator)
    noise = torch.randn(STEPS, 2, BATCH, D, generator=generator)
    share = BATCH // fabric.world_size
    mine = slice(share * fabric.global_rank, share * (fabric.global_rank + 1))
    gradients = []

    def keep(optimizer, args, kwargs):
        gradients.append({n: p.grad.clone() for n, p in method.named_parameters()})

    stepper.optimizer.register_step_pre_hook(keep)
    for step in range(STEPS):
        own = noise[step, :, mine]
        parts = [own[:, first :: scenario.accumulate] for first in range(scenario.accumulate)]
        draws = iter([part.flatten(0, 1) for part in parts])
        seed_step(0, step)  # the directions of an aggregate term are the first process's
        normal = "torch.distributions.normal._standard_normal"
        with patch(normal, lambda *_, draws=draws, **__: next(draws)):
            stepper.step(views[step, :, mine])
    return {"gradients": gradients[0], "state": method.state_dict()}


def all_scenarios(fabric, directory):
    found = {name: run(scenario, fabric) for name, scenario in SCENARIOS.items()}
    if fabric.is_global_zero:
        torch.save(found, directory / f"{fabric.world_size}.pt")


def forked(directory, number):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        strategy = "ddp_fork" if number > 1 else "auto"
        fabric = Fabric(accelerator="cpu", devices=number, strategy=strategy)
        fabric.launch(all_scenarios, directory)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(directory):
    torch.set_num_threads(1)
    sys.exit(max(forked(directory, number) for number in (1, 2, 4)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
