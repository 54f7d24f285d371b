"""Which columns of the logs are drawn, in which units, and what each curve tells."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from vje_pyro.report import plots
from vje_pyro.report.collect import Log


@dataclass(frozen=True)
class Curve:
    """A column of a log and how to show it.

    Args:
        column: Name in the CSV.
        title: Heading.
        unit: Text of the value axis.
        text: One or two sentences for the reader.
        limits: Ends of the axis that the meaning of the value fixes.
        spread: Column that holds the half width of a band.
        factor: Multiplies the column (100 for percent).
    """

    column: str
    title: str
    unit: str
    text: str
    limits: plots.Limits = (None, None)
    spread: str = ""
    factor: float = 1.0


class Panel(NamedTuple):
    """A plot with its heading and explanation."""

    title: str
    plot: Markup
    text: str


POSITIVE, NATS = (0.0, None), "nats per datum"

STEPS = (
    Curve("elbo", "ELBO", NATS, "The bound: direction + radius − β KL, for one ordered pair of "
          "views. Higher is better. Densities can exceed one, so its sign means nothing."),
    Curve("loss", "Loss", "minimised value", "What the optimiser minimises."),
    Curve("direction", "Directional term", NATS, "Expected log density of the direction of the "
          "target embedding on the unit sphere."),
    Curve("radius", "Radial term", NATS, "Expected log density of the norm of the target "
          "embedding."),
    Curve("kl", "KL to the prior", NATS, "KL(q(z | view) ‖ p(z)), the price of what the posterior "
          "says about an image. Near zero: posterior collapse.", POSITIVE),
    Curve("angle", "Angle between views", "degrees", "Mean angle between the embeddings of two "
          "views of one image. Two independent directions in high dimension are near 90°; an angle "
          "near 0° for all pairs is a sign of collapse.", POSITIVE),
    Curve("scale_mean", "Posterior scale σ", "mean ± std", "Scale of the posterior, which is also "
          "that of the directional likelihood. 1 is the scale of the prior.", POSITIVE,
          "scale_std"),
    Curve("clamp_fraction", "Clamped scales", "share [%]", "How often log σ² is held by its "
          "bounds. Should stay near zero.", POSITIVE, factor=100.0),
    Curve("lr", "Learning rate", "per step", "Warm-up and decay.", POSITIVE),
    Curve("grad_norm", "Gradient norm", "Euclidean norm", "Norm of the gradient of all weights. "
          "Spikes are unstable steps.", POSITIVE),
    Curve("images_per_second", "Speed", "images per second", "Images trained on; each gives "
          "several views.", POSITIVE),
)  # fmt: skip

EPOCHS = (
    Curve("knn", "Online kNN", "accuracy [%]", "Nearest-neighbour accuracy on a held-out part of "
          "the training split. It follows training; the figures above are the measurement.",
          (0.0, 100.0), factor=100.0),
    Curve("rankme", "Effective rank (RankMe)", "effective rank", "Exponential of the entropy of "
          "the singular values of the embeddings, not centred (Garrido et al., 2023). A fall is "
          "dimensional collapse.", POSITIVE),
    Curve("active_units", "Active units", "share of features [%]", "Features of the latent whose "
          "posterior mean varies over the images (variance above 0.01). Few or none: posterior "
          "collapse.", (0.0, 100.0), factor=100.0),
    Curve("embedding_std", "Spread of directions", "in units of an even spread", "√D times the "
          "standard deviation of the unit-length embeddings: 1 where directions are spread "
          "evenly, 0 where all images share one.", POSITIVE),
)  # fmt: skip

NOT_DRAWN = {"step", "epoch", "time", "scale_std"}
FIRST = {"elbo", "loss", "knn", "rankme"}
"""Columns whose curves are shown first."""


def panels(
    steps: Log | None, epochs: Log | None, num_features: int, num_classes: int
) -> tuple[list[Panel], list[Panel]]:
    """The curves of :data:`FIRST` (ELBO stands for the loss where it is there), and the others.

    Columns of ``steps.csv`` that are in no table here come last, under the names the method gave.
    """
    references = {"rankme": (float(num_features), f"D = {num_features}")}
    if num_classes > 1:
        chance = 100 / num_classes
        references["knn"] = (chance, f"chance {chance:.3g} %")
    known = {curve.column for curve in STEPS} | NOT_DRAWN
    others = tuple(
        Curve(name, name.replace("_", " "), "as logged", "A value that this method logs.")
        for name in (steps.columns if steps else ())
        if name and name not in known
    )
    first: list[Panel] = []
    rest: list[Panel] = []
    for log, against, curves in ((steps, "step", STEPS + others), (epochs, "epoch", EPOCHS)):
        for curve in curves if log else ():
            if log is None or (y := log.get(curve.column)) is None:
                continue
            panel = _panel(log, curve, against, y, references.get(curve.column))
            second = curve.column == "loss" and log.get("elbo") is not None
            (first if curve.column in FIRST and not second else rest).append(panel)
    return first, rest


def _panel(
    log: Log, curve: Curve, against: str, y: np.ndarray, reference: tuple[float, str] | None
) -> Panel:
    x = log.get(against)
    x = np.arange(len(y), dtype=float) if x is None else x
    values = curve.factor * y
    spread = log.get(curve.spread) if curve.spread else None
    limits = curve.limits
    if curve.column == "rankme" and reference is not None:
        limits = (0.0, reference[0] * 1.08)
    half = None if spread is None else np.nan_to_num(spread)
    plot = plots.curve(
        x,
        values,
        x_label=against,
        y_label=curve.unit,
        band=None if half is None else (values - half, values + half),
        limits=limits,
        reference=reference,
        alarms=[float(at) for at, text in zip(x, log.alarms, strict=True) if text],
    )
    return Panel(curve.title, plot, curve.text)
