"""bayes-heads-v1: probabilities from 1, 5 and 10 labels per class, ten draws each.

Heads on points see the features, those on posteriors the mean and standard deviation of
q(z | image). Labels are drawn as in few-label-v1; the other training images are given without
theirs. The reference is the logistic regression of few-label-v1.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vje_pyro.errors import DataError
from vje_pyro.evaluation.features import Features
from vje_pyro.evaluation.few_label import DRAWS, draw, possible
from vje_pyro.evaluation.linear import fit_classifier
from vje_pyro.heads import GaussianHead, LaplaceHead
from vje_pyro.heads.head import UNLABELLED
from vje_pyro.statistics import expected_calibration_error

Predictor = Callable[[Any, NDArray[np.int64], Any], NDArray[np.float64]]
"""Class probabilities of test images from training images, of which −1 have no label."""


def logistic(train: Any, y: NDArray[np.int64], test: Any) -> NDArray[np.float64]:
    """The logistic regression of few-label-v1, whose probabilities float32 would round to 0."""
    train, test = (x.astype(np.float64) for x in (train, test))
    scaler, chosen = StandardScaler().fit(train), y != UNLABELLED
    classifier = fit_classifier(scaler.transform(train[chosen]), y[chosen])
    probabilities: NDArray[np.float64] = classifier.predict_proba(scaler.transform(test))
    return probabilities


PREDICTORS: dict[str, Predictor] = {
    "niw": lambda train, y, test: GaussianHead().fit(train, y).predict_proba(test),
    "laplace": lambda train, y, test: LaplaceHead().fit(train, y).predict_proba(test),
}


def few_label_scores(train: Features, test: Features) -> dict[str, list[float]]:
    """``accuracy``, ``nll`` (nats) and ``ece`` of every draw, as ``METRIC_HEAD-INPUT_LABELS``.

    Args:
        train: Training features, with posteriors where the heads shall see these.
        test: Test features, with posteriors where ``train`` has them.

    Raises:
        DataError: If a class of the test split is not in the training split.
    """
    classes = np.unique(train.y)
    if len(unknown := np.setdiff1d(test.y, classes)):
        raise DataError(f"the test split has classes {unknown.tolist()} that training has not")
    target = np.searchsorted(classes, test.y)
    runs: list[tuple[str, Predictor, Any, Any]] = [("logistic-points", logistic, train.x, test.x)]
    for name, predictor in PREDICTORS.items():
        runs.append((f"{name}-points", predictor, train.x, test.x))
        if train.posterior is not None:
            runs.append((f"{name}-posterior", predictor, train.posterior, test.posterior))
    scores: dict[str, list[float]] = defaultdict(list)
    with threadpool_limits(limits=1):  # see few_label
        for count in possible(train.y):
            for seed in range(DRAWS):
                y = np.full_like(train.y, UNLABELLED)
                chosen = draw(train.y, count, seed)
                y[chosen] = train.y[chosen]
                for name, predictor, known, new in runs:
                    for metric, value in _metrics(predictor(known, y, new), target).items():
                        scores[f"{metric}_{name}_{count}"].append(value)
    return dict(scores)


def _metrics(probabilities: NDArray[np.float64], y: NDArray[np.intp]) -> dict[str, float]:
    chosen = np.maximum(probabilities[np.arange(len(y)), y], np.finfo(np.float64).tiny)
    return {
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == y)),
        "nll": float(-np.log(chosen).mean()),
        "ece": expected_calibration_error(probabilities, y),
    }
