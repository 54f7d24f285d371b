"""Versioned protocols on frozen features, and results as files."""

from vje_pyro.diagnostics.aggregate_posterior import AggregatePosterior
from vje_pyro.evaluation.features import Features, extract, pixels
from vje_pyro.evaluation.knn import knn_accuracy, knn_predict
from vje_pyro.evaluation.ood_protocol import OutOfDistribution
from vje_pyro.evaluation.protocols import DEFAULT, PROTOCOLS, evaluate
from vje_pyro.evaluation.result import Result
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.evaluation.spectrum import spectrum
from vje_pyro.scores import detection_figures, detection_metrics
from vje_pyro.statistics import Figure

__all__ = [
    "DEFAULT",
    "PROTOCOLS",
    "AggregatePosterior",
    "Features",
    "Figure",
    "OutOfDistribution",
    "Result",
    "Scorer",
    "detection_figures",
    "detection_metrics",
    "evaluate",
    "extract",
    "knn_accuracy",
    "knn_predict",
    "pixels",
    "spectrum",
]
