"""Parameters as the param sites that Pyro's own training steps."""

import pyro
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import nn


def listener() -> TraceMessenger | None:
    """What ``pyro.infer.SVI`` collects param sites with, if it is at work."""
    listening = (m for m in _PYRO_STACK if isinstance(m, TraceMessenger) and m.param_only)
    return next(listening, None)


def register(module: nn.Module) -> None:
    """Make a module's parameters param sites under its class name, as ``pyro.module`` does.

    Raises:
        ValueError: If the parameter store holds the parameters of another module of this class.
    """
    store, name = pyro.get_param_store(), type(module).__name__
    for key, parameter in module.named_parameters():
        held = dict.get(store._params, f"{name}$$${key}", parameter)
        if held is not parameter:
            raise ValueError(
                f"Pyro's parameter store already holds another {name} (parameter '{key}'), and SVI "
                f"would train that one: call pyro.clear_param_store() before training a new model."
            )
        if parameter.requires_grad:
            pyro.param(f"{name}$$${key}", parameter)
