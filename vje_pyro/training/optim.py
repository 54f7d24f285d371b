"""Optimisers and their schedule: LARS, parameter groups, warm-up with cosine decay.

References:
    [You2017] Y. You, I. Gitman, B. Ginsburg. Large batch training of convolutional networks.
        arXiv 1708.03888.
    [Loshchilov2017] I. Loshchilov, F. Hutter. SGDR: Stochastic gradient descent with warm
        restarts. ICLR 2017.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vje_pyro.ranges import NonNegativeFloat, Probability, ProperFraction


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
    """SGD with momentum whose step in each tensor is scaled to the tensor's norm [You2017].

    Algorithm 1 of the paper, for a weight ``w`` with gradient ``g``, decay ``b``, rate ``lr``:

        trust = trust_coefficient * |w| / (|g| + b * |w|)
        v     = momentum * v + lr * trust * (g + b * w)
        w     = w - v

    ``trust`` is 1 where ``|w|`` or ``|g|`` is zero, and in groups with ``adapt=False``. As in the
    paper the rate is inside the momentum. With ``clip`` the tensor's rate ``lr * trust`` becomes
    ``min(trust, lr)``, as in NVIDIA's LARC and solo-learn. No value leaves the device.

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


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine [Loshchilov2017], as a factor on the learning rate.

    Args:
        warmup: Share of all steps that warm up, in [0, 1).
        final: Factor that the cosine approaches at the end, in [0, 1].

    Raises:
        ValueError: An argument out of its range.

    Example:
        >>> schedule = WarmupCosine(warmup=0.5)
        >>> [round(schedule(step, 8), 3) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    warmup: ProperFraction = 0.05
    final: Probability = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of all steps in [0, 1), got {self.warmup}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final is a factor in [0, 1], got {self.final}")

    def __call__(self, step: int, total_steps: int) -> float:
        """Factor for ``step`` (from 0) of ``total_steps``."""
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final + (1 - self.final) * cosine


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Set each group's ``lr`` to ``factor`` times the ``lr`` it was built with.

    Returns:
        The rate of the first group, for the log.
    """
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
    return float(optimizer.param_groups[0]["lr"])
