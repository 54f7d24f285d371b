"""few-label-v1: the probe of linear-v1 with 1, 5 and 10 labels per class, ten draws each.

Every draw takes the same number of images of each class, without replacement. The features are
standardised with the statistics of the *whole* training split: those need no labels, and ten
images would estimate them badly.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vje_pyro.evaluation.linear import Floats, Labels, fit_classifier

LABELS_PER_CLASS = (1, 5, 10)
DRAWS = 10


def possible(labels: Labels) -> list[int]:
    """Those of :data:`LABELS_PER_CLASS` that every class has."""
    rarest = np.unique(labels, return_counts=True)[1].min()
    return [m for m in LABELS_PER_CLASS if m <= rarest]


def draw(labels: Labels, per_class: int, seed: int) -> NDArray[np.int64]:
    """Indices of ``per_class`` random images of every class, shape ``(classes * per_class,)``.

    Args:
        labels: Classes, shape ``(N,)``.
        per_class: How many images of each class.
        seed: Seed of the draw.

    Raises:
        ValueError: If a class has fewer images than that.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if per_class < 1 or counts.min() < per_class:
        rarest = counts.argmin()
        raise ValueError(
            f"cannot draw {per_class} labels per class: class {classes[rarest]} has "
            f"{counts[rarest]} training images; between 1 and {counts[rarest]} are possible"
        )
    rng = np.random.default_rng((seed, per_class))
    members = (np.flatnonzero(labels == c) for c in classes)
    return np.concatenate([rng.choice(m, per_class, replace=False) for m in members])


def few_label_accuracies(
    train_x: Floats,
    train_y: Labels,
    test_x: Floats,
    test_y: Labels,
    *,
    labels_per_class: Sequence[int] = LABELS_PER_CLASS,
    draws: int = DRAWS,
) -> dict[int, list[float]]:
    """Test accuracy of each draw (seeds 0, 1, …), by labels per class.

    Args:
        train_x: Features, shape ``(N, D)``.
        train_y: Classes, shape ``(N,)``.
        test_x: Features, shape ``(M, D)``.
        test_y: Classes, shape ``(M,)``.
        labels_per_class: How many labels per class.
        draws: How many draws for each of these.

    Raises:
        ValueError: As :func:`draw` and :func:`~vje_pyro.evaluation.linear.fit_classifier`.
    """
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)

    def accuracy(per_class: int, seed: int) -> float:
        chosen = draw(train_y, per_class, seed)
        classifier = fit_classifier(train_x[chosen], train_y[chosen])
        return float(np.mean(classifier.predict(test_x) == test_y))

    # Fits this small wait for each other's threads: on a busy machine 33 s against 2 (measured).
    with threadpool_limits(limits=1):
        return {m: [accuracy(m, seed) for seed in range(draws)] for m in labels_per_class}
