"""Amortised guides, one file each. Installed as ``vje_pyro.guides``."""

from vje_pyro.guides.diagonal_normal import DiagonalNormal

__all__ = ["DiagonalNormal"]
