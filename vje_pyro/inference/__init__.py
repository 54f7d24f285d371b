"""Inference: the symmetric ELBO, which knows sites, not models; the aggregate regularisers."""

from typing import TYPE_CHECKING, Any

from vje_pyro.inference.embedding_model import EmbeddingModel
from vje_pyro.inference.epps_pulley import SlicedEppsPulley
from vje_pyro.inference.experts import product_of_experts, stack_views
from vje_pyro.inference.importance_weighted import ImportanceWeightedELBO, PredictiveLikelihood
from vje_pyro.inference.local_params import LocalParams
from vje_pyro.inference.objectives import (
    Conditional,
    Evidence,
    Joint,
    Objective,
    Predictive,
    Subsets,
)
from vje_pyro.inference.programs import ViewPrograms
from vje_pyro.inference.sliced_wasserstein import SlicedWasserstein
from vje_pyro.inference.symmetric_elbo import SymmetricELBO, ordered_pairs
from vje_pyro.inference.variance_covariance import VarianceCovariance

if TYPE_CHECKING:
    from vje_pyro.inference.canonical import CanonicalCoordinates, WithinImageWhitening

__all__ = [
    "CanonicalCoordinates",
    "Conditional",
    "EmbeddingModel",
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
    "WithinImageWhitening",
    "ordered_pairs",
    "product_of_experts",
    "stack_views",
]


def __getattr__(name: str) -> Any:
    if name in ("CanonicalCoordinates", "WithinImageWhitening"):
        from vje_pyro.inference import canonical  # scikit-learn is imported where it is used

        return getattr(canonical, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
