"""Inference: the symmetric ELBO, which knows sites, not models; the aggregate regularisers."""

from vje_pyro.inference.compiled import CompiledProgram
from vje_pyro.inference.epps_pulley import SlicedEppsPulley
from vje_pyro.inference.sliced_wasserstein import SlicedWasserstein
from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs
from vje_pyro.inference.variance_covariance import VarianceCovariance

__all__ = [
    "CompiledProgram",
    "SlicedEppsPulley",
    "SlicedWasserstein",
    "SymmetricELBO",
    "VarianceCovariance",
    "ordered_pairs",
]
