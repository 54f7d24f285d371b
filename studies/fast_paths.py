"""The fast paths of a GPU are right: they give the loss and the gradients of float64 on the CPU.

The same weights, views and latent noise go through VJE in float64 on the CPU and, on the device, in
every precision, memory layout and mode of compilation that a training may use. A path passes if its
gradient is as near to the exact one as its precision allows (``GRADIENT_LIMIT``,
``NOISE_LIMIT``), for every batch.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.training_step import default_vje
from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.evaluation import Figure, Result
from vje_pyro.models import VJE
from vje_pyro.training.step import compile_encoder

PROTOCOL = "correctness-v1"
SEEDS = (0, 1, 2)
GRADIENT_LIMIT = 1e-2
"""Largest relative error of the whole gradient in float32, ‖g - g64‖ / ‖g64‖: a rounding of 2^-24
grows through twenty layers, their batch norms and kinks, and back."""

NOISE_LIMIT = 0.5
"""The same of lower precisions, as a share of the relative standard deviation of the gradient from
batch to batch: rounding is to be the smaller noise by far."""

LOSS_LIMIT = 2e-2
"""Largest relative error of the loss."""


@dataclass(frozen=True)
class FastPath:
    """One way to compute a step.

    Args:
        precision: ``float32``, ``tf32`` or ``bf16`` (autocast).
        channels_last: Memory layout of weights and views.
        compile: Mode of ``torch.compile``: the encoder is compiled, and with
            ``reduce-overhead`` it runs in CUDA graphs.
    """

    precision: str
    channels_last: bool = False
    compile: str | None = None


PATHS = {
    "float32": FastPath("float32"),
    "float32-channels-last": FastPath("float32", True),
    "float32-compiled": FastPath("float32", False, "default"),
    "tf32-channels-last": FastPath("tf32", True),
    "bf16": FastPath("bf16"),
    "bf16-channels-last": FastPath("bf16", True),
    "bf16-channels-last-compiled": FastPath("bf16", True, "default"),
    "bf16-channels-last-graphs": FastPath("bf16", True, "reduce-overhead"),
}


def fast_paths(names: Sequence[str], device: torch.device) -> Iterator[Result]:
    """Errors of each path, and whether it passes.

    Args:
        names: From :data:`PATHS`.
        device: Where; on a CPU a small network goes the same way in seconds.
    """
    tiny = device.type == "cpu"
    base, batch, side = _method(tiny), 16 if tiny else 64, 16 if tiny else 32
    batches = [_views(batch, side, seed) for seed in SEEDS]
    exact = [_exact(base, views) for views in batches]
    for name in names:
        figures, error = _compare(base, batches, exact, PATHS[name], device)
        yield Result(
            PROTOCOL, {"name": "random"}, "VJE", "encoder", figures, 0,
            settings={
                "encoder": type(base.encoder).__name__, "batch_size": batch, "image_size": side,
                "seeds": list(SEEDS), "gradient_limit": GRADIENT_LIMIT,
                "noise_limit": NOISE_LIMIT, "loss_limit": LOSS_LIMIT,
            },
            details={"name": name, "passes": error is None, "error": error},
            device=str(device),
        )  # fmt: skip


def _compare(
    base: VJE, batches: list[Tensor], exact: list[Any], path: FastPath, device: torch.device
) -> tuple[dict[str, Figure], str | None]:
    """Errors of a path by name, and what is wrong with it, if anything."""
    errors: dict[str, list[float]] = {"loss_error": [], "gradient_error": [], "cosine": []}
    try:
        method = _prepared(base, path, device)
        for views, (loss, gradient) in zip(batches, exact, strict=True):
            found, other = _loss_and_gradient(method, _laid_out(views, path, device), path)
            errors["loss_error"].append(abs(found - loss) / abs(loss))
            errors["gradient_error"].append(float((other - gradient).norm() / gradient.norm()))
            errors["cosine"].append(float(torch.cosine_similarity(other, gradient, dim=0)))
    except RuntimeError as error:  # a path that cannot run here is a finding, too
        return {}, f"{type(error).__name__}: {str(error)[:500]}"
    figures = {
        name: Figure(sum(v) / len(v), min(v), max(v), len(v), "range over batches")
        for name, v in errors.items()
    }
    limits = {"loss_error": LOSS_LIMIT, "gradient_error": GRADIENT_LIMIT}
    if path.precision != "float32":
        limits["gradient_error"] = NOISE_LIMIT * _batch_noise([gradient for _, gradient in exact])
    wrong = [
        f"{name} {figures[name].high:.3g} > {limit:.3g}"
        for name, limit in limits.items()
        if not figures[name].high <= limit
    ]
    return figures, "; ".join(wrong) or None


def _batch_noise(gradients: list[Tensor]) -> float:
    """Relative standard deviation of the gradient, over batches."""
    mean = torch.stack(gradients).mean(0)
    squares = torch.stack([(g - mean).square().sum() for g in gradients])
    variance = squares.sum() / (len(gradients) - 1)
    return float(variance.sqrt() / mean.norm())


def _method(tiny: bool) -> VJE:
    torch.manual_seed(0)
    small = SmallResNet(widths=(8, 16), stem_width=8)
    encoder = small if tiny else ResNet("resnet18", image_size=32)
    return default_vje(encoder)


def _prepared(base: VJE, path: FastPath, device: torch.device) -> VJE:
    layout = torch.channels_last if path.channels_last else torch.contiguous_format
    method = copy.deepcopy(base).to(device).to(memory_format=layout)
    if path.compile is not None:
        torch.compiler.reset()
        # On a CPU only its tracing.
        backend = "aot_eager" if device.type == "cpu" else "inductor"
        compile_encoder(method, path.compile, backend=backend)
    return method


def _views(batch: int, side: int, seed: int) -> Tensor:
    """Two views of smooth random images: of white noise all embeddings would be the same."""
    coarse = torch.randn(batch, 3, 4, 4, generator=_generator(seed))
    images = interpolate(coarse, size=(side, side), mode="bilinear")
    return images + 0.3 * torch.randn(2, *images.shape, generator=_generator(seed + len(SEEDS)))


def _laid_out(views: Tensor, path: FastPath, device: torch.device) -> Tensor:
    views = views.to(device)
    if path.channels_last:
        return views.flatten(0, 1).contiguous(memory_format=torch.channels_last).view_as(views)
    return views


def _exact(base: VJE, views: Tensor) -> tuple[float, Tensor]:
    method = copy.deepcopy(base).double()
    encoder = method.encoder
    method.embed = lambda images: encoder(images)  # type: ignore[method-assign]  # not rounded
    return _loss_and_gradient(method, views.double(), FastPath("float32"))


def _loss_and_gradient(method: VJE, views: Tensor, path: FastPath) -> tuple[float, Tensor]:
    """Loss, and the gradient of all weights as one vector in float64 on the CPU."""
    method.zero_grad(set_to_none=True)
    with _tf32(path.precision == "tf32"), _fixed_noise():
        if views.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # graphs may reuse the last step's memory
        with torch.autocast(views.device.type, torch.bfloat16, enabled=path.precision == "bf16"):
            total = method.loss(views).total
        total.backward()
    gradients = [p.grad.double().flatten().cpu() for p in method.parameters() if p.grad is not None]
    return total.item(), torch.cat(gradients)


@contextmanager
def _fixed_noise() -> Iterator[None]:
    """The latent noise is the same in every precision and on every device."""

    def noise(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        # By a formula rather than a generator, so that a compiled graph has it, too: the points of
        # two irrational rotations through Box and Muller's map.
        count = torch.arange(1, shape.numel() + 1, dtype=torch.float64, device=device)
        u, v = ((count * step).frac() for step in (5**0.5, 2**0.5))
        normal = (-2 * u.log()).sqrt() * (2 * math.pi * v).cos()
        return normal.reshape(shape).to(dtype)

    with patch("torch.distributions.normal._standard_normal", noise):
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    backends: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
