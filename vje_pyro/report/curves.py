"""Which columns of the logs are drawn, in which units, and what each curve tells."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vje_pyro.report import plots
from vje_pyro.report.collect import Floats, Log


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
        to_features: Whether the upper end is the embedding dimension D.
        factor: Multiplies the column (100 for percent).
    """

    column: str
    title: str
    unit: str
    text: str
    limits: plots.Limits = (None, None)
    spread: str | None = None
    to_features: bool = False
    factor: float = 1.0


@dataclass(frozen=True)
class Panel:
    """A plot with its heading and explanation."""

    title: str
    plot: Markup
    text: str


BOUND = (
    Curve(
        "elbo",
        "ELBO",
        "nats per datum",
        "The bound: direction + radius − β KL, for one ordered pair of views. Higher is better. "
        "Densities can exceed one, so its sign means nothing.",
    ),
    Curve(
        "direction",
        "Directional term",
        "nats per datum",
        "Expected log density of the direction of the target embedding on the unit sphere.",
    ),
    Curve(
        "radius",
        "Radial term",
        "nats per datum",
        "Expected log density of the norm of the target embedding.",
    ),
    Curve(
        "kl",
        "KL to the prior",
        "nats per datum",
        "KL(q(z | view) ‖ p(z)), the price of what the posterior says about an image. "
        "Near zero: posterior collapse.",
        limits=(0.0, None),
    ),
)

STEPS = (
    Curve(
        "angle",
        "Angle between views",
        "degrees",
        "Mean angle between the embeddings of two views of one image. Two independent directions "
        "in high dimension are near 90°; an angle near 0° for all pairs is a sign of collapse.",
        limits=(0.0, None),
    ),
    Curve(
        "scale_mean",
        "Posterior scale σ",
        "mean ± std",
        "Scale of the posterior, which is also that of the directional likelihood. "
        "1 is the scale of the prior.",
        limits=(0.0, None),
        spread="scale_std",
    ),
    Curve(
        "clamp_fraction",
        "Clamped scales",
        "share [%]",
        "How often log σ² is held by its bounds. Should stay near zero.",
        limits=(0.0, None),
        factor=100.0,
    ),
    Curve("loss", "Loss", "minimised value", "What the optimiser minimises."),
    Curve("lr", "Learning rate", "per step", "Warm-up and decay.", limits=(0.0, None)),
    Curve(
        "grad_norm",
        "Gradient norm",
        "Euclidean norm",
        "Norm of the gradient of all weights. Spikes are unstable steps.",
        limits=(0.0, None),
    ),
    Curve(
        "images_per_second",
        "Speed",
        "images per second",
        "Images trained on; each gives several views.",
        limits=(0.0, None),
    ),
)

EPOCHS = (
    Curve(
        "knn",
        "Online kNN",
        "accuracy [%]",
        "Nearest-neighbour accuracy on a held-out part of the training split. It follows training; "
        "the figures above are the measurement.",
        limits=(0.0, 100.0),
        factor=100.0,
    ),
    Curve(
        "rankme",
        "RankMe",
        "effective rank",
        "Effective number of directions that the embeddings use. A fall is dimensional collapse.",
        limits=(0.0, None),
        to_features=True,
    ),
    Curve(
        "active_units",
        "Active units",
        "share of features [%]",
        "Features of the latent whose posterior mean varies over the images (variance above 0.01). "
        "Few or none: posterior collapse.",
        limits=(0.0, 100.0),
        factor=100.0,
    ),
    Curve(
        "embedding_std",
        "Spread of directions",
        "in units of an even spread",
        "√D times the standard deviation of the unit-length embeddings: 1 where directions are "
        "spread evenly, 0 where all images share one.",
        limits=(0.0, None),
    ),
)

NOT_DRAWN = {"step", "epoch", "time", "scale_std"}


def panels(
    steps: Log | None, epochs: Log | None, num_features: int, num_classes: int
) -> list[Panel]:
    """All curves: terms of the bound, state of the representation, course of the optimisation.

    Columns of ``steps.csv`` that are in no table here come last, under the names the method gave.
    """

    def reference(curve: Curve) -> tuple[float, str] | None:
        if curve.to_features:
            return float(num_features), f"D = {num_features}"
        if curve.column == "knn" and num_classes > 1:
            return 100 / num_classes, f"chance {100 / num_classes:.3g} %"
        return None

    known = {curve.column for curve in (*BOUND, *STEPS)} | NOT_DRAWN
    others = [
        Curve(name, name.replace("_", " "), "as logged", "A value that this method logs.")
        for name in (steps.columns if steps else ())
        if name and name not in known
    ]
    groups = ((steps, "step", BOUND), (epochs, "epoch", EPOCHS), (steps, "step", (*STEPS, *others)))
    return [
        panel
        for log, against, curves in groups
        if log is not None
        for panel in _panels(log, curves, against, reference)
    ]


def _panels(
    log: Log,
    curves: tuple[Curve, ...],
    against: str,
    reference: Callable[[Curve], tuple[float, str] | None],
) -> list[Panel]:
    panels = []
    for position, curve in enumerate(curves):
        y = log.get(curve.column)
        if y is None:
            continue
        x = log.get(against)
        x = np.arange(len(y), dtype=float) if x is None else x
        spread: Floats | None = log.get(curve.spread) if curve.spread else None
        alarms = [float(place) for place, text in zip(x, log.alarms, strict=True) if text]
        line = reference(curve)
        limits = curve.limits
        if curve.to_features and line is not None:
            limits = (0.0, line[0] * 1.08)
        plot = plots.curve(
            f"{against}-{curves[0].column}-{position}",
            x,
            curve.factor * y,
            x_label=against,
            y_label=curve.unit,
            spread=spread,
            limits=limits,
            reference=line,
            alarms=alarms,
        )
        panels.append(Panel(curve.title, plot, curve.text))
    return panels
