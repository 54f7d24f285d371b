"""Parameters that Pyro programs make, kept by a module in place of Pyro's parameter store."""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import transform_to
from torch.distributions.constraints import Constraint

from vje_pyro.inference.registering import listener


class LocalParams(nn.Module):
    """What ``pyro.param`` makes inside of :meth:`held`, as parameters of this module.

    Any optimiser trains them, and they are in the module's state. They are unconstrained; every
    call gives the constraint::

        with self.params.held():
            rate = pyro.param("rate", torch.ones(3), constraint=constraints.positive)

    They are made by the first call, as those of torch's lazy modules are, or by a checkpoint
    (:meth:`make_missing`): a method has to compute one loss before an optimiser is made. Parameters
    of modules (``pyro.module``, PyroModules) stay those of their modules.

    Source: this project; Pyro's ``module_local_params`` keeps SVI from plain modules.

    Example:
        >>> one, other = LocalParams(), LocalParams()
        >>> for params, value in ((one, 1.0), (other, 2.0)):
        ...     with params.held():
        ...         _ = pyro.param("loc", torch.tensor(value))
        >>> [dict(params.named_parameters())["loc"].item() for params in (one, other)]
        [1.0, 2.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self._constraints: dict[str, Constraint] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block, ``pyro.param`` makes and gives parameters of this module.

        Pyro's store is out of reach, but for SVI, which needs it.
        """
        store = nullcontext() if listener() else pyro.get_param_store().scope()
        with store, _Held(self):
            yield

    def make_missing(self, state: Mapping[str, Tensor]) -> None:
        """Make the parameters that a state dictionary has beyond these, with its values."""
        for key, value in state.items():
            if key not in self._parameters:
                self._parameters[key] = nn.Parameter(value.clone())

    def get(self, name: str, init: Any, constraint: Constraint) -> Tensor:
        """The constrained parameter, made of ``init`` if there is none; as ``pyro.param`` does.

        Raises:
            ValueError: If a parameter that a checkpoint made is asked for without its constraint.
        """
        key = name.replace(".", "%2E")  # a dot separates modules
        if init is not None:
            self._constraints[name] = constraint
            if key not in self._parameters:
                self._parameters[key] = _unconstrained(init, constraint)
        elif name not in self._constraints:
            raise ValueError(
                f"pyro.param('{name}') is asked for by its name alone, before the call that has "
                f"its first value and constraint: give them in every call."
            )
        parameter = self._parameters[key]
        assert parameter is not None
        value: Tensor = transform_to(self._constraints[name])(parameter)
        value.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
        return value

    def has(self, name: str) -> bool:
        """Whether a parameter of this name is kept here."""
        return name.replace(".", "%2E") in self._parameters


class _Held(Messenger):
    """Answers param sites, those of modules excepted."""

    def __init__(self, params: LocalParams) -> None:
        super().__init__()
        self.params = params

    def _pyro_param(self, msg: Any) -> None:
        name, init = (*msg["args"], None)[:2]
        of_module = isinstance(init, nn.Parameter) or (init is None and not self.params.has(name))
        if not (msg["done"] or of_module):
            msg["value"] = self.params.get(name, init, msg["kwargs"]["constraint"])
            msg["done"] = True


def _unconstrained(init: Any, constraint: Constraint) -> nn.Parameter:
    with torch.inference_mode(False), torch.no_grad():
        value = (init() if callable(init) else init).detach().clone()
        return nn.Parameter(transform_to(constraint).inv(value).contiguous())
