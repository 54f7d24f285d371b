"""Variational Joint Embedding as a probabilistic program."""

from vje_pyro._version import __version__
from vje_pyro.run import Representation, load

__all__ = ["Representation", "__version__", "load"]
