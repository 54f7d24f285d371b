"""Pyro programs of a method with an encoder: they can be given views, and train everything."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vje_pyro.inference.local_params import LocalParams
from vje_pyro.inference.registering import listener, register
from vje_pyro.inference.symmetric_elbo import SymmetricELBO
from vje_pyro.method import ProbabilisticMethod


class ViewPrograms(ProbabilisticMethod):
    """A method's model and guide, as Pyro programs on *views* or on what is read from them.

    Given views ``(V, B, C, H, W)``, each program runs the encoder first, so that any inference of
    Pyro trains it::

        svi = pyro.infer.SVI(method.model, method.guide, optim, loss=pyro.infer.Trace_ELBO())
        svi.step(views)

    The encoder runs once per view and step: the model takes up what the guide has read from the
    same tensor. Given what :meth:`pairs` returns, the programs start from that. A subclass says how
    the data are generated and the latents are drawn (:meth:`generate`, :meth:`approximate`); what
    these make by ``pyro.param`` are parameters of the method
    (:class:`~vje_pyro.inference.LocalParams`).

    Args:
        encoder: As of :class:`~vje_pyro.method.Method`.
    """

    elbo: SymmetricELBO
    """The bound that a step maximises."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.params = LocalParams()
        self._read: tuple[Tensor, tuple[Any, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What was read from views belongs to one step: a copy starts without it.
        return super().__getstate__() | {"_read": None}

    @abstractmethod
    def pairs(self, views: Tensor) -> tuple[Any, ...]:
        """Arguments of :meth:`generate` and :meth:`approximate` from views, perhaps labels."""

    @abstractmethod
    def generate(self, *data: Any) -> Any:
        """The Pyro model on what :meth:`pairs` returns."""

    @abstractmethod
    def approximate(self, *data: Any) -> Any:
        """The Pyro guide on what :meth:`pairs` returns."""

    def model(self, *data: Any) -> Any:
        """The Pyro model: :meth:`generate` on views, or on what :meth:`pairs` returns."""
        if _are_views(data):
            read, self._read = self._read, None
            data = read[1] if read and read[0] is data[0] else self.pairs(*data)
        return self._run(self.generate, data)

    def guide(self, *data: Any) -> Any:
        """The Pyro guide: :meth:`approximate` on views, or on what :meth:`pairs` returns."""
        if _are_views(data):
            self._read = data[0], self.pairs(*data)
            data = self._read[1]
        return self._run(self.approximate, data)

    def bound(self, *data: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound of what :meth:`pairs` returns, a mean with gradient; its parts, detached."""
        device = next(x.device.type for x in data if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            terms = self.elbo.terms(self.model, self.guide, *data)
            elbo = self.elbo.per_datum(terms).mean()
        return elbo, {"elbo": elbo.detach()} | {k: v.detach().mean() for k, v in terms.items()}

    def terms(self, num_samples: int, *data: Any) -> dict[str, Tensor]:
        """Terms of the bound with β = 1 of every datum, and ``elbo``, their sum."""
        bound = SymmetricELBO(1.0, num_samples, self.elbo.kl)
        terms = bound.terms(self.model, self.guide, *data)
        return {"elbo": bound.per_datum(terms), **terms}

    def _run(self, program: Callable[..., Any], data: tuple[Any, ...]) -> Any:
        with self.params.held():
            result = program(*data)
        if listener():
            register(self)
        return result


def _are_views(data: tuple[Any, ...]) -> bool:
    return bool(data) and isinstance(data[0], Tensor) and data[0].dim() == 5
