"""Parameter groups, and LARS."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vje_pyro.ranges import NonNegativeFloat


def param_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Split the trainable parameters of ``module`` into weights and one-dimensional ones.

    Biases and the scales and shifts of normalisation layers are neither decayed nor (by LARS)
    rescaled: their norms say nothing about how far a step may go.

    Returns:
        Groups for any torch optimiser: weights first; then, with ``weight_decay=0`` and
        ``adapt=False``, the parameters of at most one dimension. Empty groups are left out.

    Raises:
        ValueError: Nothing in ``module`` can be trained.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"{type(module).__name__} has no parameter that requires a gradient")
    weights = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": vectors, "weight_decay": 0.0, "adapt": False},
    ]
    return [group for group in groups if group["params"]]


class LARS(Optimizer):
    """SGD with momentum whose step in each tensor is scaled to the tensor's norm.

    For a weight ``w`` with gradient ``g``, decay ``b``, rate ``lr``::

        trust = trust_coefficient * |w| / (|g| + b * |w|)
        v     = momentum * v + lr * trust * (g + b * w)
        w     = w - v

    ``trust`` is 1 where ``|w|`` or ``|g|`` is zero, and in groups with ``adapt=False``. With
    ``clip`` the tensor's rate ``lr * trust`` becomes ``min(trust, lr)``, as in NVIDIA's LARC and
    solo-learn. No value leaves the device.

    Source: You, Gitman & Ginsburg, "Large batch training of convolutional networks" (arXiv
    1708.03888), algorithm 1.

    Args:
        params: Parameters or groups, see :func:`param_groups`.
        lr: Global learning rate.
        momentum: Decay of the velocity ``v``.
        weight_decay: ``b``.
        trust_coefficient: How far a tensor may move, as a fraction of its norm.
        clip: Take ``lr`` as the largest rate instead of as a factor.

    Raises:
        ValueError: A negative argument.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat,
        momentum: NonNegativeFloat = 0.9,
        weight_decay: NonNegativeFloat = 0.0,
        trust_coefficient: NonNegativeFloat = 1e-3,
        clip: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        for name, value in defaults.items():
            if value < 0:
                raise ValueError(f"LARS needs {name} >= 0, got {value}")
        super().__init__(params, {**defaults, "clip": clip, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; ``closure``, if any, recomputes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [cast(Tensor, parameter.grad) for parameter in params]
        decay = group["weight_decay"]
        steps = list(torch._foreach_add(grads, params, alpha=decay)) if decay else grads
        if group["adapt"]:
            cap = group["lr"] if group["clip"] else None
            trust = _trust_ratios(params, grads, decay, group["trust_coefficient"], cap)
            steps = list(torch._foreach_mul(steps, trust))
        velocities = [self._velocity(parameter) for parameter in params]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, steps, alpha=group["lr"])
        torch._foreach_sub_(params, velocities)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state["velocity"]


def _trust_ratios(
    params: list[Tensor],
    grads: list[Tensor],
    decay: float,
    coefficient: float,
    cap: float | None,
) -> list[Tensor]:
    """One scalar tensor per parameter, computed for the whole group at once."""
    weight_norm = torch.stack(torch._foreach_norm(params))
    grad_norm = torch.stack(torch._foreach_norm(grads))
    ratio = coefficient * weight_norm / (grad_norm + decay * weight_norm)
    if cap is not None:
        ratio = (ratio / cap).clamp(max=1)
    usable = (weight_norm > 0) & (grad_norm > 0)
    return list(torch.where(usable, ratio, torch.ones_like(ratio)).unbind())
