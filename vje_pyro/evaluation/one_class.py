"""one-class-v1: a model for each class, and how well its scores know the others."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.errors import DataError
from vje_pyro.evaluation.detection import (
    RESAMPLES,
    OutlierScores,
    detection_metrics,
    percentile_figure,
    resample_counts,
)
from vje_pyro.evaluation.result import Figure

_INTERVAL = "95% bootstrap over test images, stratified by class"


def one_class_figures(
    scores: dict[int, OutlierScores],
    labels: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Figure]:
    """AUROC of every score for every class against the others, and the mean over classes.

    A bootstrap resample draws the test images of each class once and has them judged by all
    models: the images are shared, and so is the chance in them.

    Args:
        scores: By class, the scores of that class's model for all N test images.
        labels: Classes of the test images, ``(N,)``.
        resamples: How many bootstrap resamples.
        seed: Of the resampling.

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
    weights = _stratified_counts(classes, resamples, seed)
    figures = {}
    for name in next(iter(scores.values())):
        values, draws = [], []
        for label, table in scores.items():
            one = classes == label
            parts = table[name][one], table[name][~one]
            values.append(float(detection_metrics(*parts)["auroc"]))
            draws.append(detection_metrics(*parts, weights[:, one], weights[:, ~one])["auroc"])
        drawn, n = np.stack(draws), len(classes)
        figures[f"auroc_{name}"] = percentile_figure(
            float(np.mean(values)), drawn.mean(0), n, _INTERVAL
        )
        for label, value, row in zip(scores, values, drawn, strict=True):
            figures[f"auroc_{name}_{label}"] = percentile_figure(value, row, n, _INTERVAL)
    return figures


def _stratified_counts(labels: NDArray[np.int64], resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each image is in each resample, which keeps the size of every class."""
    counts = np.empty((resamples, len(labels)), np.uint8)
    for label in np.unique(labels):
        members = labels == label
        counts[:, members] = resample_counts(members.sum(), resamples, (seed, int(label)))
    return counts


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
