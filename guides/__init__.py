"""Amortised guides, one file each. Installed as ``vje_pyro.guides``."""

from vje_pyro.guides.affine_coupling_flow import AffineCouplingFlow
from vje_pyro.guides.amortised import AmortisedGuide
from vje_pyro.guides.conjugate_normal import ConjugateNormal
from vje_pyro.guides.diagonal_normal import DiagonalNormal
from vje_pyro.guides.low_rank_normal import LowRankNormal
from vje_pyro.method import Inferred

__all__ = [
    "AffineCouplingFlow",
    "AmortisedGuide",
    "ConjugateNormal",
    "DiagonalNormal",
    "Inferred",
    "LowRankNormal",
]
