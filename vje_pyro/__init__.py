"""Variational Joint Embedding as a probabilistic program."""

from vje_pyro._version import __version__

__all__ = ["__version__"]
