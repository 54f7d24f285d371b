"""Can the inference be believed? Checks of a trained method's posterior and of its predictions."""

from vje_pyro.diagnostics.amortisation import Amortisation, amortisation_gap
from vje_pyro.diagnostics.importance import Importance, importance_weights
from vje_pyro.diagnostics.latent import Latent, latent_usage
from vje_pyro.diagnostics.nuts import NutsComparison, NutsRun, compare_with_nuts
from vje_pyro.diagnostics.pairs import Pairs, require_posterior, view_pairs

__all__ = [
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
    "require_posterior",
    "view_pairs",
]
