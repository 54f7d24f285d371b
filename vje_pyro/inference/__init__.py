"""Inference: the symmetric ELBO, which knows sites, not models; the aggregate regulariser."""

from vje_pyro.inference.epps_pulley import SlicedEppsPulley
from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs

__all__ = ["SlicedEppsPulley", "SymmetricELBO", "ordered_pairs"]
