"""Can the inference be believed? Checks of a trained method's posterior and of its predictions."""

from vje_pyro.diagnostics.importance import Importance, importance
from vje_pyro.diagnostics.pairs import Pairs, require_posterior, view_pairs

__all__ = ["Importance", "Pairs", "importance", "require_posterior", "view_pairs"]
