"""Numbers with their intervals: of images by the bootstrap, of seeds and draws by Student's t.

No interval leaves the range of its figure, and every table, page and message shows a figure by
:func:`show`. Files hold accuracies and other shares as fractions; tables show them in percent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, StrictFloat, StrictInt
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
"""Which units a resample holds, ``(R, n)``: a row a resample."""

LEVEL = 0.95
"""Probability mass of every interval."""

RESAMPLES = 1000
"""Of every bootstrap."""

BINS = 15
"""Of the calibration error."""

_BATCH = 1 << 20
"""Places at once."""


@dataclass(frozen=True)
class Figure:
    """A number with its interval.

    Args:
        value: The estimate; shares such as accuracies are fractions in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many test images, draws or seeds the interval is over.
        interval: What the interval is, in words: ``"95% bootstrap over test images"``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: StrictFloat
    low: StrictFloat
    high: StrictFloat
    n: StrictInt
    interval: str

    @classmethod
    def point(cls, value: float, n: int = 1, interval: str = "none") -> "Figure":
        """A number that has no interval; ``interval`` says why."""
        return cls(float(value), float(value), float(value), n, interval)


# ----------------------------------------------------------------------------------- over images


def bootstrap(
    statistic: Callable[..., ArrayLike], *sizes: int, over: str = "test images", seed: int = 0
) -> list[Figure]:
    """Statistics of samples with their percentile bootstrap intervals (Efron, 1979).

    The samples are resampled apart. The intervals cover the choice of these units and nothing else.
    A sample of one unit stays as it is.

    Args:
        statistic: From the places of each sample, ``(R, n)``, to values ``(F, R)`` or ``(R,)``.
        sizes: Number of units of each sample.
        over: What the units are, in the plural.
        seed: Of the resampling.

    Returns:
        F figures, of which the value is the statistic of the samples as they are.

    Example:
        >>> x = np.array([1.0, 1.0])
        >>> bootstrap(lambda places: x[places].mean(-1), 2)
        [Figure(value=1.0, low=1.0, high=1.0, n=2, interval='95% bootstrap over test images')]
    """

    def of(*places: Places) -> Floats:
        rest = iter(places)
        each = [np.zeros((len(places[0]), 1), int) if n == 1 else next(rest) for n in sizes]
        return np.atleast_2d(np.asarray(statistic(*each), dtype=np.float64))

    free = [np.arange(n) for n in sizes if n > 1]
    values = of(*(sample[None] for sample in free or [np.zeros(1, int)]))[:, 0]
    low, high = values, values
    if free:
        low, high = scipy.stats.bootstrap(
            free, lambda *places, axis: of(*map(np.atleast_2d, places)), vectorized=True, axis=-1,
            n_resamples=RESAMPLES, batch=max(1, _BATCH // sum(sizes)), method="percentile",
            confidence_level=LEVEL, rng=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
    interval = f"{100 * LEVEL:g}% bootstrap over {over}"
    ends = zip(values, np.atleast_1d(low), np.atleast_1d(high), strict=True)
    return [Figure(float(v), float(a), float(b), sum(sizes), interval) for v, a, b in ends]


def counts(places: Places) -> Places:
    """How often each unit is in each resample ``(R, n)``, of the same shape."""
    rows, n = places.shape
    flat = places + n * np.arange(rows)[:, None]
    return np.bincount(flat.ravel(), minlength=rows * n).reshape(rows, n)


def bootstrap_mean(values: ArrayLike, over: str = "images", seed: int = 0) -> Figure:
    """Mean of one value of each independent unit ``(N,)``, such as whether an image is right.

    Values that are all alike have an interval of no width.

    Raises:
        ValueError: If the values are no vector, none, or not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(
            f"a mean needs a non-empty vector of finite values, got shape {sample.shape} with "
            f"{int((~np.isfinite(sample)).sum())} that are not finite."
        )
    (figure,) = bootstrap(lambda places: sample[places].mean(-1), len(sample), over=over, seed=seed)
    return figure


# ---------------------------------------------------------------------------- over seeds and draws


class Scale(NamedTuple):
    """Where a figure may lie, and the scale on which its repetitions are about normal."""

    name: str  # in words, for the interval
    low: float  # least value
    high: float  # greatest value
    to: Callable[[float], float]  # to the scale
    back: Callable[[float], float]
    slope: Callable[[float], float]  # derivative of ``to``


SHARE = Scale("logit scale", 0, 1, logit, expit, lambda x: 1 / (x * (1 - x)))
CORRELATION = Scale("Fisher's z", -1, 1, np.arctanh, np.tanh, lambda x: 1 / (1 - x**2))
POSITIVE = Scale("log scale", 0, np.inf, np.log, np.exp, lambda x: 1 / x)
REAL = Scale("plain scale", -np.inf, np.inf, float, float, lambda x: 1.0)

_SHARES = (
    "accuracy", "auroc", "aupr", "fpr95", "aurc", "r-auroc", "ece", "crop", "calibration", "signal",
    "angle-", "radius-", "rank-alarms", "active_units", "coverage",
)  # fmt: skip
_CORRELATIONS = ("human", "severity", "cosine")
_POSITIVE = (
    "nll", "kl", "rankme", "minutes", "step_ms", "peak_memory", "variance", "predicted-variance",
    "simulated-variance", "second_moment", "crps", "angle",
)  # fmt: skip


def scale_of(name: str) -> Scale:
    """Scale of a figure by its name in result files, such as ``accuracy_5``; else the plain one.

    Example:
        >>> scale_of("views-8_angle-50").name, scale_of("severity_elbo").name, scale_of("gap").name
        ('logit scale', "Fisher's z", 'plain scale')
    """
    what = name.split("_", 1)[1] if name.startswith("views-") else name
    table = {_SHARES: SHARE, _CORRELATIONS: CORRELATION, _POSITIVE: POSITIVE}
    found = (scale for names, scale in table.items() if what.startswith(names))
    return next(found, REAL)


def over_repetitions(values: Sequence[float], scale: Scale = REAL, over: str = "seeds") -> Figure:
    r"""Mean of repetitions with its 95 % interval; of fewer than three, the points themselves.

    With standard error e of the mean m and :math:`g` the scale's transformation, the interval is

    .. math:: g^{-1}\big(g(m) \pm t_{n-1}\, g'(m)\, e\big)

    (Student's t-interval by the delta method), which holds m and lies in the scale's range. All
    values alike have an interval of no width.

    Args:
        values: One a repetition.
        scale: Of the figure.
        over: What the repetitions are, in the plural.

    Raises:
        ValueError: If there are no values, or one leaves the range of the scale.

    Example:
        >>> show(over_repetitions([0.97, 0.99, 1.0], SHARE), ".1f", 100)
        '98.7 [80.5, 99.9]'
        >>> show(over_repetitions([70.1, 83.9], POSITIVE))
        '70.1, 83.9'
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size or not (scale.low <= sample.min() <= sample.max() <= scale.high):
        raise ValueError(f"values on {scale.name} wanted, got {sample.tolist()}.")
    n, mean = len(sample), float(np.clip(sample.mean(), sample.min(), sample.max()))
    if n < 3:
        return Figure(mean, float(sample.min()), float(sample.max()), n, f"{_POINTS} {n} {over}")
    error = float(sample.std(ddof=1)) / n**0.5 if np.ptp(sample) else 0.0  # rounding is no spread
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    interval = f"{_T_INTERVAL} over {n} {over}, {scale.name}"
    return Figure(mean, *_ends(mean, half, scale), n, interval)


_POINTS = "the points of"
_T_INTERVAL = f"{100 * LEVEL:g}% t-interval"


def _ends(mean: float, half: float, scale: Scale) -> tuple[float, float]:
    if half == 0 or mean in (scale.low, scale.high):
        return mean, mean
    middle, reach = float(scale.to(mean)), half * float(scale.slope(mean))
    with np.errstate(over="ignore"):
        low, high = float(scale.back(middle - reach)), float(scale.back(middle + reach))
    # Rounding may take an end past the mean; a number too large for a float has no JSON.
    return min(low, mean), max(mean, min(high, float(np.finfo(float).max)))


def over_seeds(figures: Sequence[Figure], scale: Scale) -> Figure:
    """One figure of several seeds, at least one; a single seed keeps the interval it has."""
    if len(figures) == 1:
        return figures[0]
    return over_repetitions([figure.value for figure in figures], scale)


def in_range(figure: Figure, scale: Scale) -> Figure:
    """A plain t-interval, of a file of before, on the figure's scale; any other as it is."""
    if not figure.interval.startswith(_T_INTERVAL) or "," in figure.interval:
        return figure
    low, high = _ends(figure.value, figure.high - figure.value, scale)
    return replace(figure, low=low, high=high, interval=f"{figure.interval}, {scale.name}")


# -------------------------------------------------------------------------------- in words


def parts(figure: Figure, form: str = ".1f", factor: float = 1) -> tuple[str, str]:
    """The number and its interval, each as it is shown; points are a number without interval.

    Args:
        figure: What is shown.
        form: Of a number.
        factor: That numbers are multiplied by: 100 for percent.
    """
    value, low, high = (f"{factor * x:{form}}" for x in (figure.value, figure.low, figure.high))
    if figure.interval.startswith(_POINTS) and figure.n > 1:
        return f"{low}, {high}", ""
    return value, f"[{low}, {high}]" if figure.low != figure.high else ""


def show(figure: Figure, form: str = ".1f", factor: float = 1) -> str:
    """:func:`parts` in one: ``98.7 [80.5, 99.9]``."""
    return " ".join(filter(None, parts(figure, form, factor)))


# ------------------------------------------------------------------------------- calibration


def expected_calibration_error(
    probabilities: NDArray[np.floating], y: NDArray[np.integer], bins: int = BINS
) -> float:
    """Expected calibration error of the predicted class, in [0, 1].

    The mean over images of the distance, in their bin of the probability of the most probable
    class, of accuracy to mean probability; bins are of equal width.

    Args:
        probabilities: Class probabilities, ``(N, C)``.
        y: Classes 0 … C − 1, ``(N,)``.
        bins: How many bins.

    Source: Naeini, Cooper & Hauskrecht (AAAI 2015); of the predicted class as in Guo et al., "On
    calibration of modern neural networks" (ICML 2017).

    Example:
        >>> expected_calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
        0.25
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
