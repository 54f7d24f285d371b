"""One optimiser step on Lightning Fabric: forward, backward, clipping, update."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from vje_pyro.errors import VJEError
from vje_pyro.method import Method
from vje_pyro.training.optim import param_groups

Scalars = dict[str, Tensor]


class Stepper:
    """Moves a method's weights by one step; nothing here waits for the device.

    Args:
        method: What is trained.
        optimizer: Makes the optimiser from parameter groups.
        fabric: Gives device, precision and processes.
        clip_grad_norm: Largest norm of the whole gradient; None does not clip.
        accumulate: Parts that a batch is split into, one after the other, to save memory: every
            ``accumulate``-th image makes a part. The gradient is that of the whole batch if the
            loss is a mean over its data; statistics of a batch, and terms made of them, are those
            of a part.

    Raises:
        ValueError: A knob out of its range, or a precision or strategy that cannot be used.
    """

    def __init__(
        self,
        method: Method,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        fabric: Fabric,
        clip_grad_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        _check(fabric, clip_grad_norm, accumulate)
        self._fabric = fabric
        self._clip = clip_grad_norm
        self._accumulate = accumulate
        self._method = method.to(fabric.device)
        self._stepped = False
        self._parameters = [p for p in method.parameters() if p.requires_grad]
        self.optimizer = optimizer(param_groups(method))
        self._model, self._optimizer = fabric.setup(method, self.optimizer)
        self._model.mark_forward_method("loss")  # so that it passes through DDP

    def step(self, views: Tensor, *labels: Tensor) -> tuple[Scalars, Scalars]:
        """Take a step on ``views``, ``(V, B, C, H, W)``, perhaps with ``labels``, ``(B,)``.

        Returns:
            Terms (``loss``, the loss's parts, ``grad_norm`` before clipping) and monitors, detached
            scalars on the device.
        """
        terms, monitors = self._backward(views, labels)
        self._check_parameters()
        terms["grad_norm"] = self._clip_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return terms, monitors

    def _check_parameters(self) -> None:
        """Refuse parameters that the first step has made: the optimiser does not know them."""
        if self._stepped:
            return
        self._stepped = True
        known = set(map(id, self._parameters))
        late = [
            n for n, p in self._method.named_parameters() if p.requires_grad and id(p) not in known
        ]
        if late:
            raise VJEError(
                f"the first step created the parameters {late}, which the optimiser does not "
                f"have: compute one loss before training to create them."
            )

    def _backward(self, views: Tensor, labels: tuple[Tensor, ...]) -> tuple[Scalars, Scalars]:
        size, number = views.shape[1], self._accumulate
        if size % number:
            raise ValueError(
                f"accumulate={number} does not split the {size} images that this process has of a "
                f"batch into equal parts; use a divisor of {size}"
            )
        terms: Scalars = {}
        monitors: Scalars = {}
        for first in range(number):
            with self._fabric.no_backward_sync(self._model, enabled=first < number - 1):
                part = views[:, first::number], *(x[first::number] for x in labels)
                with self._fabric.autocast():  # DDP alone would see to it, one device does not
                    loss = self._model.loss(*part)
                self._fabric.backward(loss.total / number)
            _add_share(terms, {"loss": loss.total, **loss.parts}, 1 / number)
            _add_share(monitors, loss.monitors, 1 / number)
        return terms, monitors

    def _clip_gradients(self) -> Tensor:
        if self._clip is None:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            return torch.nn.utils.get_total_norm(gradients)
        norm = self._fabric.clip_gradients(
            self._model, self._optimizer, max_norm=self._clip, error_if_nonfinite=False
        )
        assert norm is not None
        return norm


def _add_share(sums: Scalars, values: Mapping[str, Tensor], share: float) -> None:
    for name, value in values.items():
        weighted = value.detach() * share
        sums[name] = sums[name] + weighted if name in sums else weighted


def _check(fabric: Fabric, clip_grad_norm: float | None, accumulate: int) -> None:
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}")
    if clip_grad_norm is not None and not clip_grad_norm > 0:
        raise ValueError(f"clip_grad_norm must be positive or null, got {clip_grad_norm}")
    precision = getattr(fabric.strategy.precision, "precision", None)
    if precision == "16-mixed":
        raise ValueError("precision=16-mixed is not supported (no loss scaling); use bf16-mixed")
    if type(fabric.strategy).__name__ == "DataParallelStrategy":
        raise ValueError("strategy=dp does not work with Pyro plates; use strategy=ddp")


def compile_encoder(method: Method, mode: str = "default", backend: str = "inductor") -> None:
    """Compile the encoder by ``torch.compile``, in place; checkpoints fit with and without.

    Args:
        method: Whose encoder it is.
        mode: Of ``torch.compile``; ``reduce-overhead`` takes CUDA graphs.
        backend: Of ``torch.compile``.
    """
    # aot_eager and its like have no modes.
    options = {"mode": mode} if backend == "inductor" else {}
    method.encoder.compile(backend=backend, dynamic=False, **options)
