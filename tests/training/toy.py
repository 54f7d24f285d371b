"""A method and loader so small that hundreds of steps take a second."""

import csv
from functools import partial
from types import MethodType

import torch
from lightning_fabric import Fabric
from torch import nn

from vje_pyro.encoders import Identity
from vje_pyro.method import Loss, Method
from vje_pyro.training.loop import Trainer
from vje_pyro.training.optim import LARS

OPTIMISERS = {
    "adamw": partial(torch.optim.AdamW, lr=1e-2, fused=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    "lars": partial(LARS, lr=0.1, weight_decay=1e-3, trust_coefficient=0.1),
}


class ToyMethod(Method):
    """Conv + batch norm; the loss draws noise, so that randomness matters."""

    def __init__(self, noise=0.1, batch_norm=True):
        super().__init__(Identity(4))  # the whole method embeds
        self.noise = noise
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
        self.head = nn.Linear(6, 4)
        self.losses = 0

    def embed(self, images):
        return self.head(self.norm(self.conv(images)).relu().mean((2, 3))).float()

    def loss(self, views):
        self.losses += 1
        a, b = self.embed(views[0]), self.embed(views[1])
        a = a + self.noise * torch.randn_like(a)
        near = ((a - b) ** 2).mean()
        spread = ((a**2).mean(1) - 1).pow(2).mean()
        parts = {"near": near.detach(), "spread": spread.detach()}
        return Loss(near + spread, parts, {"angle": (a - b).abs().mean().detach()})


class ToyLoader:
    """64 random 6x6 images, permuted by (seed, epoch), sliced by rank."""

    def __init__(self, batch_size=16, seed=0, rank=0, world_size=1, size=64):
        generator = torch.Generator().manual_seed(7)
        self.images = torch.randint(0, 256, (size, 1, 6, 6), generator=generator).to(torch.uint8)
        self.labels = torch.arange(size) % 2
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.steps_per_epoch = size // batch_size

    def epoch(self, epoch, start_step=0):
        generator = torch.Generator().manual_seed(self.seed * 1000 + epoch)
        order = torch.randperm(len(self.images), generator=generator)
        for step in range(start_step, self.steps_per_epoch):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            indices = batch[self.rank :: self.world_size]
            yield self.images[indices], indices


def normalize(images):
    return images.float() / 255 - 0.5


def views(images):
    x = normalize(images)
    return torch.stack([x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)])


def plain_views(images):
    x = normalize(images)
    return torch.stack([x, x.flip(3)])


def fail_at(step, error=RuntimeError):
    """Views that fail in the ``step``-th call (from 1)."""
    calls = []

    def failing(images):
        calls.append(1)
        if len(calls) == step:
            raise error("stopped by the test")
        return views(images)

    return failing


def make_method(**kwargs):
    torch.manual_seed(0)
    return ToyMethod(**kwargs)


def set_loss(method, loss):
    """Let ``method`` have the loss ``loss(views)``."""
    method.loss = MethodType(lambda self, views: loss(views), method)


def train(run_dir, method=None, loader=None, make_views=views, **kwargs):
    """``fit`` with small defaults; returns the method and the result."""
    method = method or make_method()
    settings = {
        "fabric": kwargs.pop("fabric", None) or Fabric(accelerator="cpu", devices=1),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=1e-2, fused=True),
        "epochs": 3,
        "log_every": 3,
        "progress": False,
        **kwargs,
    }
    trainer = Trainer(method, loader or ToyLoader(), make_views, run_dir=run_dir, **settings)
    return method, trainer.fit()


def same_state(a, b):
    """Whether two state dictionaries are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(run, log):
    """Rows of a log of the run."""
    with (run / "logs" / f"{log}.csv").open() as file:
        return list(csv.DictReader(file))


def untimed(table):
    """Rows without what differs from run to run."""
    return [
        {k: v for k, v in row.items() if k not in ("time", "images_per_second", "peak_memory")}
        for row in table
    ]


def checkpoints(run):
    """Names of the files among the run's checkpoints."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())
