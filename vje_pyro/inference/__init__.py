"""Inference: the symmetric ELBO, which knows sites, not models; the aggregate regularisers."""

from vje_pyro.inference.canonical import CanonicalCoordinates
from vje_pyro.inference.epps_pulley import SlicedEppsPulley
from vje_pyro.inference.experts import product_of_experts, stack_views
from vje_pyro.inference.importance_weighted import ImportanceWeightedELBO
from vje_pyro.inference.local_params import LocalParams
from vje_pyro.inference.objectives import (
    Conditional,
    Evidence,
    Joint,
    Objective,
    Predictive,
    Subsets,
)
from vje_pyro.inference.predictive import PredictiveLikelihood
from vje_pyro.inference.programs import ViewPrograms
from vje_pyro.inference.sliced_wasserstein import SlicedWasserstein
from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs
from vje_pyro.inference.variance_covariance import VarianceCovariance

__all__ = [
    "CanonicalCoordinates",
    "Conditional",
    "Evidence",
    "ImportanceWeightedELBO",
    "Joint",
    "LocalParams",
    "Objective",
    "Predictive",
    "PredictiveLikelihood",
    "SlicedEppsPulley",
    "SlicedWasserstein",
    "Subsets",
    "SymmetricELBO",
    "VarianceCovariance",
    "ViewPrograms",
    "ordered_pairs",
    "product_of_experts",
    "stack_views",
]
