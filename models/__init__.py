"""Pyro programs, one file each. Installed as ``vje_pyro.models``."""

from vje_pyro.models.vje import VJE

__all__ = ["VJE"]
