"""Intervals: over test images by the bootstrap, over draws or seeds by Student's t."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from vje_pyro.evaluation.result import Figure


def bootstrap_accuracy(
    correct: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Figure:
    """Accuracy with the percentile bootstrap interval over test images (Efron, 1979).

    A resample draws N images with replacement and counts the correct ones, and that count is
    Binomial(N, accuracy): so the counts are drawn directly, exactly and without an N by
    ``resamples`` array. Covers the choice of test images only, not that of training seed. An
    accuracy of exactly 0 or 1 gets an interval of no width: no resample can contain a surprise.

    Args:
        correct: Whether each test image was classified correctly, bool, shape ``(N,)``.
        level: Probability mass of the interval, in (0, 1).
        resamples: How many bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If ``correct`` is empty, not boolean or not a vector, or ``level`` is outside
            (0, 1).
    """
    hits = np.asarray(correct)
    if hits.ndim != 1 or hits.size == 0 or hits.dtype != np.bool_:
        raise ValueError(
            f"correct must be a non-empty boolean vector, got {hits.dtype} of shape {hits.shape}"
        )
    tail = _tail(level)
    accuracy = float(hits.mean())
    rng = np.random.default_rng(seed)
    means = rng.binomial(hits.size, accuracy, size=resamples) / hits.size
    low, high = np.quantile(means, [tail, 1 - tail])
    interval = f"{100 * level:g}% bootstrap over test images"
    return Figure(accuracy, float(low), float(high), int(hits.size), interval)


def t_interval(values: Sequence[float], *, over: str, level: float = 0.95) -> Figure:
    """Mean of a few repetitions with Student's t-interval (normal repetitions assumed).

    Args:
        values: One value a repetition, at least two.
        over: What the repetitions are, in the plural: ``"draws"`` or ``"seeds"``.
        level: Probability mass of the interval, in (0, 1).

    Raises:
        ValueError: If there are fewer than two values, or ``level`` is outside (0, 1).
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over {over} needs at least 2 of them, got {n}")
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / n**0.5
    half = float(student_t.ppf(1 - _tail(level), df=n - 1)) * error
    return Figure(mean, mean - half, mean + half, n, f"{100 * level:g}% t-interval over {n} {over}")


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return (1 - level) / 2
