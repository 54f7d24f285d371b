"""Can the inference be believed? Checks of a trained method's posterior and of its predictions."""

from vje_pyro.diagnostics.amortisation import Amortisation, amortisation_gap
from vje_pyro.diagnostics.blocks import BlockImportance, block_importance
from vje_pyro.diagnostics.c2st import C2ST, classifier_test
from vje_pyro.diagnostics.check import Check, Data, Shown, Verdict, load_check
from vje_pyro.diagnostics.coverage import Coverage, expected_coverage
from vje_pyro.diagnostics.export import load_netcdf, save_netcdf, to_arviz
from vje_pyro.diagnostics.feature_check import FeatureCheck, feature_check
from vje_pyro.diagnostics.further_view import FurtherView
from vje_pyro.diagnostics.importance import Importance, importance_weights
from vje_pyro.diagnostics.latent import Latent, latent_usage
from vje_pyro.diagnostics.likelihood_comparison import (
    Comparison,
    Likelihood,
    compare_likelihoods,
    compare_scores,
    heldout_scores,
)
from vje_pyro.diagnostics.nuts import NutsComparison, NutsRun, compare_with_nuts
from vje_pyro.diagnostics.pairs import Pairs, require_posterior, view_pairs
from vje_pyro.diagnostics.predictive import PredictiveCheck, Replicates, predictive_check
from vje_pyro.diagnostics.recalibration import (
    Recalibrated,
    Recalibration,
    Temperature,
    fit_temperature,
)
from vje_pyro.diagnostics.sbc import SBC, normalized_method, simulation_based_calibration

__all__ = [
    "C2ST",
    "SBC",
    "Amortisation",
    "BlockImportance",
    "Check",
    "Comparison",
    "Coverage",
    "Data",
    "FeatureCheck",
    "FurtherView",
    "Importance",
    "Latent",
    "Likelihood",
    "NutsComparison",
    "NutsRun",
    "Pairs",
    "PredictiveCheck",
    "Recalibrated",
    "Recalibration",
    "Replicates",
    "Shown",
    "Temperature",
    "Verdict",
    "amortisation_gap",
    "block_importance",
    "classifier_test",
    "compare_likelihoods",
    "compare_scores",
    "compare_with_nuts",
    "expected_coverage",
    "feature_check",
    "fit_temperature",
    "heldout_scores",
    "importance_weights",
    "latent_usage",
    "load_check",
    "load_netcdf",
    "normalized_method",
    "predictive_check",
    "require_posterior",
    "save_netcdf",
    "simulation_based_calibration",
    "to_arviz",
    "view_pairs",
]
