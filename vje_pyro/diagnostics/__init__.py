"""Can the inference be believed? Checks of a trained method's posterior and of its predictions."""

from vje_pyro.diagnostics.amortisation import Amortisation, amortisation_gap
from vje_pyro.diagnostics.importance import Importance, importance_weights
from vje_pyro.diagnostics.latent import Latent, latent_usage
from vje_pyro.diagnostics.nuts import NutsComparison, NutsRun, compare_with_nuts
from vje_pyro.diagnostics.pairs import Pairs, require_posterior, view_pairs
from vje_pyro.diagnostics.sbc import SBC, normalized_method, simulation_based_calibration

__all__ = [
    "SBC",
    "Amortisation",
    "Importance",
    "Latent",
    "NutsComparison",
    "NutsRun",
    "Pairs",
    "amortisation_gap",
    "compare_with_nuts",
    "importance_weights",
    "latent_usage",
    "normalized_method",
    "require_posterior",
    "simulation_based_calibration",
    "view_pairs",
]
