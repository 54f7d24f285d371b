"""Can the inference be believed? Checks of a trained method's posterior and of its predictions."""

from vje_pyro.diagnostics.pairs import Pairs, require_posterior, view_pairs

__all__ = ["Pairs", "require_posterior", "view_pairs"]
