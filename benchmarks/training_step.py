"""A training step of VJE beside its bound, to be timed piece by piece.

The bound is the forward and backward pass of the encoder alone, view by view under the same
autocast, on views that are ready: what no method with this encoder can be faster than.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.timing import Stopwatch, count_synchronisations, counted_transfers
from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.data import ImageArray, ResidentLoader, Views
from vje_pyro.distributions import RadialStudentT, SphericalStudentT
from vje_pyro.encoders import SmallResNet
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import VJE
from vje_pyro.training.devices import make_fabric
from vje_pyro.training.optim import param_groups
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import Stepper, compile_encoder
from vje_pyro.training.step_means import StepMeans

MIB = 2**20


def default_vje(encoder: nn.Module, aggregate: nn.Module | None = None) -> VJE:
    """VJE with the default guide and likelihoods around an encoder."""
    direction, radius = (
        partial(SphericalStudentT, df=1.0),
        partial(RadialStudentT, scale=1.0, df=1.0),
    )
    return VJE(encoder, DiagonalNormal, direction, radius, aggregate=aggregate)


def small_vje(aggregate: nn.Module | None = None) -> VJE:
    """The same around the small residual network, with weights of seed 0."""
    torch.manual_seed(0)
    return default_vje(SmallResNet(), aggregate)


def loss_by_hand(method: Any, views: Tensor) -> Tensor:
    """The objective of :func:`small_vje` without Pyro, for ν = 1 and β = 1."""
    embeddings = [method.norm(method.encoder(view).float()) for view in views]
    source, target = torch.cat(embeddings), torch.cat(embeddings[::-1]).detach()
    loc, raw = method.inference.network(source).chunk(2, dim=-1)
    middle, half = method.inference.log_scale_middle, method.inference.log_scale_half_width
    scale = torch.exp(middle + half * torch.tanh((raw - middle) / half))
    z = loc + scale * torch.randn_like(loc)
    dim, tau = loc.shape[-1] - 1, scale / math.sqrt(loc.shape[-1])
    m, u, radius = normalize(z, dim=-1), normalize(target, dim=-1), target.norm(dim=-1)
    c = (u * m).sum(-1)
    q = 2 / (1 + c) * ((u - c[:, None] * m) / tau).square().sum(-1)
    direction = (
        math.lgamma((1 + dim) / 2) - math.lgamma(0.5) - dim / 2 * math.log(math.pi)
        - tau.log().sum(-1) + 0.5 * (m * tau).square().sum(-1).log()
        - (1 + dim) / 2 * torch.log1p(q)
    )  # fmt: skip
    radial = -math.log(math.pi) - torch.log1p((radius - z.norm(dim=-1)).square())
    kl = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum(-1)
    return -(direction + radial - kl).mean() / loc.shape[-1]


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Args:
        encoder: Makes it.
        image_size: Side of a view in pixels.
        stored_size: Side of the stored images that views are cut from.
        views: Name of the configuration of the views.
    """

    encoder: Callable[[], torch.nn.Module]
    image_size: int
    stored_size: int
    views: str


class TrainingStep:
    """A method ready to train, with the two things that are timed: ``bound`` and ``step``.

    Args:
        setup: What is trained.
        batch: Images of a step.
        device: Where.
        backend: Of ``torch.compile``; None does not compile.
        num_images: Random images to train on.
        aggregate: Regulariser of the embeddings; None leaves it out.
        precision: Of the encoder, as ``device.precision``.
    """

    def __init__(
        self,
        setup: Setup,
        batch: int,
        device: torch.device,
        backend: str | None = None,
        num_images: int = 4096,
        aggregate: torch.nn.Module | None = None,
        precision: str = "auto",
    ) -> None:
        torch.manual_seed(0)
        self.device, self.batch = device, batch
        accelerator = {"accelerator": device.type, "devices": 1, "num_nodes": 1}
        self.fabric = make_fabric(
            OmegaConf.create({**accelerator, "strategy": "auto", "precision": precision})
        )
        method = default_vje(setup.encoder(), aggregate)
        self.method = method.to(device).to(memory_format=torch.channels_last)
        if backend is not None:
            compile_encoder(self.method, backend=backend)
        self.stepper = Stepper(self.method, partial(torch.optim.AdamW, fused=True), self.fabric)
        # Of its own, for the split; that of the stepper is wrapped.
        self.optimizer = torch.optim.AdamW(param_groups(self.method), fused=True)
        self.means, self.count = StepMeans(), 0
        self.make_views = _views(setup)
        shape = (max(num_images, 2 * batch), 3, setup.stored_size, setup.stored_size)
        images = torch.randint(256, shape, dtype=torch.uint8)
        data = ImageArray(images, torch.zeros(len(images), dtype=torch.int64))
        self.loader = ResidentLoader(data, batch, seed=0, device=device)
        self.batches = self._batches()
        self.ready = self.make_views(self.loader.images[:batch])

    def _batches(self) -> Any:
        epoch = 0
        while True:
            yield from (images for images, _ in self.loader.epoch(epoch))
            epoch += 1

    def bound(self) -> None:
        """Forward and backward of the encoder, view by view as the method does it."""
        with self.fabric.autocast():
            embeddings = [self.method.encoder(view) for view in self.ready]
        sum(e.float().square().mean() for e in embeddings).backward()
        self.method.zero_grad(set_to_none=True)

    def step(self) -> None:
        """What the training loop does between two log steps."""
        seed_step(0, self.count)
        images = next(self.batches)
        with torch.no_grad():
            views = self.make_views(images)
        terms, monitors = self.stepper.step(views)
        self.count += 1
        self.means.add(self.count, terms, monitors)

    def split(self) -> dict[str, float]:
        """Milliseconds of a step's pieces: data, views, encoder, head, backward, optimizer.

        ``head`` is forward only, ``head_backward`` its share of the backward pass, which ends
        where the gradient reaches the embeddings.
        """
        watch = Stopwatch(self.device)
        images = next(self.batches)
        watch.mark("data")
        with torch.no_grad():
            views = self.make_views(images)
        watch.mark("views")
        with self.fabric.autocast():
            embeddings = [self.method.embed(view) for view in views]
            watch.mark("encoder")
            # Cut here, so that the two halves of the backward pass can be told apart.
            leaves = [e.detach().requires_grad_() for e in embeddings]
            total = self._loss_of(leaves)
        watch.mark("head")
        total.backward()
        watch.mark("head_backward")
        torch.autograd.backward(embeddings, [leaf.grad for leaf in leaves])
        watch.mark("backward")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        watch.mark("optimizer")
        return watch.milliseconds()

    def _loss_of(self, embeddings: Sequence[Tensor]) -> Tensor:
        remaining = iter(embeddings)
        self.method.embed = lambda _: next(remaining)
        try:
            return self.method.loss(embeddings).total
        finally:
            del self.method.embed

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peaks(self) -> dict[str, float]:
        """Peak MiB of the step and of the bound on CUDA; the same weights lie there for both."""
        found = {"views_mib": self.ready.nbytes / MIB}
        if self.device.type != "cuda":
            return found
        for name, run in (("bound_peak_mib", self.bound), ("step_peak_mib", self.step)):
            self.synchronise()
            torch.cuda.reset_peak_memory_stats()
            run()
            self.synchronise()
            found[name] = torch.cuda.max_memory_allocated() / MIB
        return found

    def synchronisations(self, steps: int) -> float:
        """Waits for the device in a step, as CUDA reports them; else the transfers to the host."""
        if self.device.type != "cuda":
            with counted_transfers() as moved:
                self.step()
            return len(moved)
        return count_synchronisations([self.step] * steps) / steps


def _views(setup: Setup) -> Views:
    config = OmegaConf.load(CONFIG_DIR / "views" / f"{setup.views}.yaml")
    moments = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    views: Views = build(config, image_size=setup.image_size, **moments)
    return views
