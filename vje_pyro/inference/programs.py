"""Pyro programs of a method with an encoder: they can be given views, and train everything."""

from abc import abstractmethod
from typing import Any

import pyro
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn


class ViewPrograms(nn.Module):
    """A method's model and guide, as Pyro programs on *views* or on what is read from them.

    Given views ``(V, B, C, H, W)``, each program runs the encoder first, so that any inference of
    Pyro trains it::

        svi = pyro.infer.SVI(method.model, method.guide, optim, loss=pyro.infer.Trace_ELBO())
        svi.step(views)

    The encoder runs once per view and step: the model takes up what the guide has read from the
    same tensor. Given the arguments that :meth:`pairs` returns, the programs start from those.

    A subclass says what is read from views (:meth:`pairs`), and how the data are generated and the
    latents are drawn from that (:meth:`generate`, :meth:`approximate`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._read: tuple[Tensor, tuple[Any, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What was read from views belongs to one step: a copy starts without it.
        return super().__getstate__() | {"_read": None}

    @abstractmethod
    def pairs(self, views: Tensor) -> tuple[Any, ...]:
        """Arguments of :meth:`generate` and :meth:`approximate` from views."""

    @abstractmethod
    def generate(self, *data: Any) -> Any:
        """The Pyro model on what :meth:`pairs` returns."""

    @abstractmethod
    def approximate(self, *data: Any) -> Any:
        """The Pyro guide on what :meth:`pairs` returns."""

    def model(self, *data: Any) -> Any:
        """The Pyro model: :meth:`generate` on views, or on what :meth:`pairs` returns."""
        if listener():
            register(self)
        if not _are_views(data):
            return self.generate(*data)
        read, self._read = self._read, None
        return self.generate(*(read[1] if read and read[0] is data[0] else self.pairs(*data)))

    def guide(self, *data: Any) -> Any:
        """The Pyro guide: :meth:`approximate` on views, or on what :meth:`pairs` returns."""
        if listener():
            register(self)
        if not _are_views(data):
            return self.approximate(*data)
        self._read = data[0], self.pairs(*data)
        return self.approximate(*self._read[1])


def _are_views(data: tuple[Any, ...]) -> bool:
    return bool(data) and isinstance(data[0], Tensor) and data[0].dim() == 5


def listener() -> TraceMessenger | None:
    """What ``pyro.infer.SVI`` collects param sites with, if it is at work.

    In the training loop and in the evaluations nobody collects them, and none are made.
    """
    listening = (m for m in _PYRO_STACK if isinstance(m, TraceMessenger) and m.param_only)
    return next(listening, None)


def register(module: nn.Module) -> None:
    """Make a module's parameters param sites under its class name, as ``pyro.module`` does.

    ``SVI`` steps the parameters that it sees as param sites.

    Raises:
        ValueError: If the parameter store holds the parameters of another module of this class,
            which SVI would train in place of these.
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
