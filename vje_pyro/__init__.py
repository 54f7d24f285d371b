"""Variational Joint Embedding as a probabilistic program."""

from typing import TYPE_CHECKING, Any

from vje_pyro._version import __version__

if TYPE_CHECKING:
    from vje_pyro.run import Representation, load

__all__ = ["Representation", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # On demand: whoever wants a distribution, or the help text, need not wait for all the rest.
    if name in ("Representation", "load"):
        from vje_pyro import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
