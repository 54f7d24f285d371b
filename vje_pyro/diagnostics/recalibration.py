r"""One scalar that recalibrates the predictive angle, fitted on training views.

Both families are fitted by the continuous ranked probability score (CRPS, a proper score, in
degrees) of the angles of *training* views, and judged on other images.

``"scale"``
    All scales of the predictive, the deviation of z from its posterior mean and the directional
    scale, are multiplied by T in [1/16, 2]. The result is a generative model. It cannot change the
    *shape* of the angle's law, which the likelihood fixes.

``"residual"``
    With :math:`m_i` the median of the model's predictive angle of datum i, and :math:`\bar m` its
    geometric mean over the training data,

    .. math:: \theta_{ij} = (m_i / \bar m)^{1/T}\, R,
       \qquad R \sim \text{law of } \theta_n\, (m_n / \bar m)^{-1/T} \text{ over training data } n.

    At T = 1 a datum that the model expects twice as wide as another is predicted twice as wide; a
    large T makes them alike; T is in [1/16, 16]. T is all that is fitted. Size and shape of the
    prediction are the empirical law of the training residuals, as in a conformal predictive
    distribution. It predicts angles only.

Training images were seen by the encoder, so the angles between their views are smaller than those
of held-out images. :meth:`Temperature.apply` to fresh views of training images shows how much.

Source: temperature scaling, Guo et al. (arXiv 1706.04599); CRPS, Gneiting & Raftery (JASA 2007);
conformal predictive distributions, Vovk et al. (2017). Both families are this project's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro.diagnostics import plots
from vje_pyro.diagnostics._images import mean_over_images, per_image
from vje_pyro.diagnostics.check import Arrays, Check, Data, Figures, Shown, told
from vje_pyro.diagnostics.coverage import Coverage, expected_coverage
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.predictive import Replicates, predictive_check
from vje_pyro.statistics import Places, bootstrap, counts

FAMILIES = ("residual", "scale")
REPORTED = (0.5, 0.8, 0.95)
"""Levels of the summary."""

_VIEWS_PER_IMAGE = 4
"""Pairs of views of each image that a check measures coverage on: one an image is too few."""

# Wider than twice the model's own scales, most of a heavy-tailed law falls off the sphere.
_RANGE = {"residual": (1 / 16, 16.0), "scale": (1 / 16, 2.0)}


@dataclass(frozen=True)
class Recalibrated:
    """Predictions of some pairs, by the model itself and recalibrated.

    Args:
        before: Coverage of the model's own prediction.
        after: Coverage of the recalibrated one.
        crps_before: CRPS of each datum in the model's prediction, degrees, ``(2N,)``.
        crps_after: CRPS of each datum in the recalibrated one.
        angle: Observed angles, degrees, ``(2N,)``.
        images: Which image each datum is of, ``(2N,)``.
    """

    before: Coverage
    after: Coverage
    crps_before: Tensor
    crps_after: Tensor
    angle: Tensor
    images: Tensor

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON; coverage is that of central intervals, CRPS and angles in degrees."""
        means = ("crps_before", "crps_after", "angle")
        return {
            "coverage_before": {f"{p:g}": self.before.at(p) for p in REPORTED},
            "coverage_after": {f"{p:g}": self.after.at(p) for p in REPORTED},
            "largest_error_after": max(abs(self.after.at(p)["value"] - p) for p in REPORTED),
            **{name: mean_over_images(getattr(self, name), self.images) for name in means},
        }


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, and what it does to predictions.

    Args:
        family: ``"residual"`` or ``"scale"``.
        value: T; 1 leaves the model's spread as it is.
        interval: 95 % bootstrap interval of T over training images, ``(low, high)``.
        law: The predictive law of family ``"residual"``, else None.
        num_samples: Draws of each datum's predictive distribution.
        seed: Of the draws.
    """

    family: str
    value: float
    interval: tuple[float, float]
    law: "ResidualLaw | None"
    num_samples: int
    seed: int

    def apply(self, pairs: Pairs) -> Recalibrated:
        """Predictions of pairs before and after recalibration.

        Coverage is measured better on several pairs of views of each image, with its index
        repeated: intervals are over images.
        """
        before = predictive_check(pairs, self.num_samples, self.seed).angle
        pit, scores = self._recalibrated(pairs, before)
        return Recalibrated(
            before=expected_coverage(before.pit, before.images),
            after=expected_coverage(pit, before.images),
            crps_before=crps(before.draws, before.observed),
            crps_after=scores,
            angle=before.observed,
            images=before.images,
        )

    def _recalibrated(self, pairs: Pairs, before: Replicates) -> tuple[Tensor, Tensor]:
        if self.law is not None:
            return self.law.pit(before), self.law.crps(before)
        after = predictive_check(pairs, self.num_samples, self.seed, temperature=self.value).angle
        return after.pit, crps(after.draws, after.observed)

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        low, high = self.interval
        return {
            "family": self.family,
            "value": self.value,
            "low": low,
            "high": high,
            "interval": "95% bootstrap over training images",
        }


@dataclass(frozen=True)
class Recalibration:
    """A temperature fitted on training views, and its predictions of held-out and of fresh views.

    Args:
        temperature: As it was fitted.
        heldout: Of held-out images.
        train: Of fresh views of the training images.
    """

    temperature: Temperature
    heldout: Recalibrated
    train: Recalibrated

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        return {name: getattr(self, name).summary() for name in ("temperature", "heldout", "train")}


def fit_temperature(
    train: Pairs, family: str = "residual", num_samples: int = 200, seed: int = 0
) -> Temperature:
    """Fit a temperature on training views, as this module's text says.

    Args:
        train: Pairs of training images; a few hundred are enough.
        family: ``"residual"`` or ``"scale"``.
        num_samples: Draws of each datum's predictive distribution.
        seed: Of the draws.

    Raises:
        ValueError: If the family is unknown, or ``num_samples`` below 2.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {FAMILIES}, got {family!r}.")
    if family == "scale":
        value, interval = _fit_scale(train, num_samples, seed)
        return Temperature(family, value, interval, None, num_samples, seed)
    law = ResidualLaw.fit(predictive_check(train, num_samples, seed).angle, seed)
    return Temperature(family, law.temperature, law.interval, law, num_samples, seed)


def _fit_scale(train: Pairs, num_samples: int, seed: int) -> tuple[float, tuple[float, float]]:
    def scores(temperature: float) -> Tensor:
        angle = predictive_check(train, num_samples, seed, temperature=temperature).angle
        return crps(angle.draws, angle.observed)

    return minimum(scores, train.indices.repeat(2), seed, _RANGE["scale"])


@dataclass(frozen=True)
class ResidualLaw:
    """Predictive law of an angle: a power of the model's relative spread, times a residual.

    Args:
        temperature: T.
        interval: 95 % bootstrap interval of T over training images.
        log_center: Mean of the log medians of the training data.
        residuals: Angles of the training data at the mean spread, sorted, degrees, ``(2N,)``.
    """

    temperature: float
    interval: tuple[float, float]
    log_center: float
    residuals: Tensor

    @classmethod
    def fit(cls, train: Replicates, seed: int = 0) -> "ResidualLaw":
        """Fit T by the CRPS of the training data, each left out of its own residual law."""
        log_median = _log_median(train)
        center = log_median.mean().item()

        def scores(temperature: float) -> Tensor:
            spread = ((log_median - center) / temperature).exp()
            return spread * _crps_left_out(train.observed.double() / spread)

        value, interval = minimum(scores, train.images, seed)
        spread = ((log_median - center) / value).exp()
        residuals = (train.observed.double() / spread).sort().values
        return cls(value, interval, center, residuals)

    def spread(self, data: Replicates) -> Tensor:
        """Relative spread of every datum, ``(2M,)``; 1 is that of a typical training datum."""
        return ((_log_median(data) - self.log_center) / self.temperature).exp()

    def pit(self, data: Replicates) -> Tensor:
        """Where each observation is in its recalibrated law, in (0, 1), ``(2M,)``.

        Between the training residuals the rank is that of the middle.
        """
        scaled = data.observed.double() / self.spread(data)
        below = torch.searchsorted(self.residuals, scaled)
        up_to = torch.searchsorted(self.residuals, scaled, right=True)
        return ((below + up_to).double() / 2 + 0.5) / (len(self.residuals) + 1)

    def quantile(self, data: Replicates, level: float) -> Tensor:
        """Quantile of every datum's recalibrated law, in degrees, ``(2M,)``."""
        residual = float(np.quantile(self.residuals.numpy(), level))
        return self.spread(data) * residual

    def crps(self, data: Replicates) -> Tensor:
        """CRPS of every observation in its recalibrated law, in degrees, ``(2M,)``."""
        spread, law, num = self.spread(data), self.residuals, len(self.residuals)
        distance = _distances(law, data.observed.double() / spread) / num
        # The CRPS of a law that is scaled is scaled: one residual law serves all data.
        return spread * (distance - _pair_distance(law) / (num * (num - 1)))


def _log_median(data: Replicates) -> Tensor:
    return data.draws.double().median(0).values.clamp(min=1e-6).log()


def crps(draws: Tensor, observed: Tensor) -> Tensor:
    r"""Continuous ranked probability score, :math:`E|X - x| - \tfrac12 E|X - X'|`, ``(N,)``.

    Unbiased over the draws; in the unit of the data; lower is better.

    Args:
        draws: Of each datum's predictive law, ``(S, N)`` or ``(S, 1)``, S at least 2.
        observed: ``(N,)``.

    Example:
        >>> crps(torch.tensor([[0.0], [1.0]]), torch.tensor([3.0]))
        tensor([2.], dtype=torch.float64)
    """
    ordered = draws.double().sort(0).values
    num = len(ordered)
    weight = 2 * torch.arange(1, num + 1, dtype=torch.float64) - num - 1
    half_distance = (weight[:, None] * ordered).sum(0) / (num * (num - 1))
    return (draws - observed).abs().double().mean(0) - half_distance


def _crps_left_out(values: Tensor) -> Tensor:
    """CRPS of each value in the law of all the others, ``(N,)``."""
    ordered, num = values.sort().values, len(values)
    distance = _distances(ordered, values)
    others = _pair_distance(ordered) - distance
    return distance / (num - 1) - others / ((num - 1) * (num - 2))


def _distances(ordered: Tensor, values: Tensor) -> Tensor:
    """Sum of the distances of each value to all of a sorted law, O(N log N)."""
    total = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    below = torch.searchsorted(ordered, values)
    return (2 * below - len(ordered)) * values + total[-1] - 2 * total[below]


def _pair_distance(ordered: Tensor) -> Tensor:
    """Sum of the distances of all pairs of a sorted law."""
    num = len(ordered)
    return ((2 * torch.arange(1, num + 1) - num - 1) * ordered).sum()


def minimum(
    scores: Callable[[float], Tensor],
    images: Tensor,
    seed: int = 0,
    bounds: tuple[float, float] = _RANGE["residual"],
) -> tuple[float, tuple[float, float]]:
    """Temperature of the least mean score, and its 95 % bootstrap interval over images.

    A grid of octaves, a finer one around its best, and a parabola in log T through the best three.

    Args:
        scores: From a temperature to the score of every datum, ``(M,)``.
        images: Which image each datum is of, ``(M,)``.
        seed: Of the resampling.
        bounds: Least and greatest temperature.
    """
    table: dict[float, Tensor] = {}

    def add(grid: Tensor) -> None:
        for point in grid.tolist():
            table[point] = per_image(scores(math.exp(point)), images)

    low, high = map(math.log, bounds)
    octave = math.log(2)
    add(torch.arange(low, high + octave / 2, octave, dtype=torch.float64))
    best = min(table, key=lambda point: table[point].mean().item())
    fine = best + octave * torch.tensor([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75], dtype=torch.float64)
    add(fine[(fine > low) & (fine < high)])
    points = np.array(sorted(table))
    values = np.stack([table[point].numpy() for point in points])

    def lowest(places: Places) -> list[float]:
        return [_lowest(points, row) for row in counts(places) @ values.T / values.shape[1]]

    (log,) = bootstrap(lowest, values.shape[1], seed=seed)
    return math.exp(log.value), (math.exp(log.low), math.exp(log.high))


def _lowest(points: np.ndarray, values: np.ndarray) -> float:
    """Minimum of the parabola through the lowest point and its neighbours."""
    i = int(values.argmin())
    if i in (0, len(points) - 1):
        return float(points[i])
    a, b, _ = np.polyfit(points[i - 1 : i + 2] - points[i], values[i - 1 : i + 2], 2)
    return float(points[i] - b / (2 * a)) if a > 0 else float(points[i])


def _measure(data: Data) -> Recalibration:
    def again(pairs: Pairs, view_seed: int) -> Pairs:
        return data.again(pairs, view_seed, _VIEWS_PER_IMAGE)

    temperature = fit_temperature(again(data.train, data.seed + 1), seed=data.seed)
    judged = (again(pairs, data.seed + 2) for pairs in (data.heldout, data.train))
    return Recalibration(temperature, *(temperature.apply(pairs) for pairs in judged))


def _show(figures: Figures, arrays: Arrays) -> Shown:
    def both(what: str, percent: bool = False, level: str = "") -> str:
        ends = (figures["heldout"][f"{what}_{when}"] for when in ("before", "after"))
        return "; ".join(told(end[level] if level else end, percent) for end in ends)

    rows = [("temperature", told(figures["temperature"]))]
    for level in figures["heldout"]["coverage_before"]:
        name = f"coverage of the {100 * float(level):g} % interval, before and after"
        rows.append((name, both("coverage", True, level)))
    rows.append(("CRPS on held-out views [degrees], before and after", both("crps")))
    curves = {}
    for label, when in (("as trained", "before"), ("recalibrated", "after")):
        interval = arrays[f"heldout/{when}/central_interval"]
        curves[label] = np.vstack([arrays[f"heldout/{when}/central"], interval.T])
    plot = plots.Coverage(
        "Coverage of central intervals",
        "On the diagonal, intervals hold what they promise; above it they are too wide. Bands are "
        "95 % intervals over images.",
        "nominal coverage [%]", arrays["heldout/before/levels"], curves,
    )  # fmt: skip
    return Shown(rows, [plot])


CHECK = Check(
    "Do intervals of the angle hold what they promise?",
    "One temperature, fitted on training views, recalibrates the predicted angle. It is judged on "
    "held-out views. The shape of the recalibrated law is that of the training residuals; the "
    "model says how wide one datum is relative to the others.",
    _measure,
    _show,
)
