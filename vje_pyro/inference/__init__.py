"""Inference: the symmetric ELBO. It knows sites, not models."""

from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs

__all__ = ["SymmetricELBO", "ordered_pairs"]
