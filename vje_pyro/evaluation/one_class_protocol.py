"""one-class-v1: a model for each class, and how well its scores know the others."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.errors import DataError
from vje_pyro.scores import OutlierScores, detection_metrics
from vje_pyro.statistics import Figure, Places, bootstrap, counts


def one_class_figures(scores: dict[int, OutlierScores], labels: ArrayLike) -> dict[str, Figure]:
    """AUROC of every score for every class against the others, and the mean over classes.

    A bootstrap resample draws the test images of each class once and has them judged by all
    models: the images are shared, and so is the chance in them.

    Args:
        scores: By class, the scores of that class's model for all N test images.
        labels: Classes of the test images, ``(N,)``.

    Returns:
        ``auroc_NAME``, the mean over classes, and ``auroc_NAME_CLASS``.

    Raises:
        DataError: If the test split holds fewer than two classes, lacks a label or one of the
            classes asked for.
        ValueError: If the models do not give the same scores of the same images.
        NonFiniteError: If a score is NaN.
    """
    classes = np.asarray(labels)
    _check(scores, classes)
    strata = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    names = list(next(iter(scores.values())))

    def aurocs(*places: Places) -> NDArray[np.float64]:
        weights = np.empty((len(places[0]), len(classes)), int)
        for members, part in zip(strata, places, strict=True):
            weights[:, members] = counts(part)
        found = np.array([[_auroc(scores[c][n], classes == c, weights) for c in scores]
                          for n in names])  # fmt: skip
        return np.concatenate([found.mean(1, keepdims=True), found], 1).reshape(-1, len(weights))

    figures = bootstrap(aurocs, *map(len, strata), over="test images, stratified by class")
    keys = (f"auroc_{name}{end}" for name in names for end in ("", *(f"_{c}" for c in scores)))
    return dict(zip(keys, figures, strict=True))


def _auroc(
    scores: NDArray[np.float64], one: NDArray[np.bool_], weights: NDArray[np.intp]
) -> NDArray[np.float64]:
    return detection_metrics(scores[one], scores[~one], weights[:, one], weights[:, ~one])["auroc"]


def _check(scores: dict[int, OutlierScores], labels: NDArray[np.int64]) -> None:
    present = np.unique(labels)
    if not scores or labels.ndim != 1 or len(present) < 2 or present[0] < 0:
        raise DataError(
            f"one-class detection needs a labelled test split of two classes or more, got the "
            f"classes {present.tolist()}."
        )
    if missing := [label for label in scores if label not in present]:
        raise DataError(
            f"the test split has no image of the classes {missing}; it has {present.tolist()}."
        )
    tables = list(scores.values())
    for table in tables:
        if table.keys() != tables[0].keys() or any(v.shape != labels.shape for v in table.values()):
            raise ValueError(f"every class needs the same scores of all {len(labels)} test images.")
