"""The plots of the diagnostics section. Each returns an ``<svg>`` element."""

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from vje_pyro.report import svg
from vje_pyro.report.collect import Floats

_BAND = 0.99


def bars(
    name: str,
    values: Floats,
    *,
    x_label: str,
    lines: tuple[tuple[float, str], ...] = (),
    bins: int = 30,
) -> Markup:
    """Histogram of any values ``(n,)`` on a linear axis; what is not finite is counted apart."""
    finite = values[np.isfinite(values)]
    with svg.drawing() as (figure, axes):
        counts, edges = np.histogram(finite, bins)
        axes.stairs(100 * counts / values.size, edges, fill=True, color=svg.SERIES, alpha=0.85)
        for place, text in lines:
            axes.axvline(place, color=svg.REFERENCE, linewidth=1.2, linestyle="--")
            axes.annotate(
                text, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2),
                textcoords="offset points", va="bottom", color=svg.REFERENCE,
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of data [%]")
        alt = f"Histogram of {x_label}: median {np.median(finite):.3g}, {len(finite)} values"
        return svg.inline(figure, name, alt)


def ranks(name: str, counts: Floats, *, x_label: str) -> Markup:
    """Counts of equal bins of [0, 1], beside the band that uniform values would stay in.

    The band holds each count by itself with 99 %: one in a hundred bins leaves it by chance.
    """
    from scipy.stats import binom

    total, bins = int(counts.sum()), len(counts)
    low, high = binom.interval(_BAND, total, 1 / bins)
    edges = np.linspace(0, 1, bins + 1)
    with svg.drawing() as (figure, axes):
        axes.fill_between([0, 1], low, high, color=svg.REFERENCE, alpha=0.22, linewidth=0)
        axes.axhline(total / bins, color=svg.REFERENCE, linewidth=1.2, linestyle="--")
        axes.stairs(counts, edges, fill=True, color=svg.SERIES, alpha=0.6)
        axes.stairs(counts, edges, color=svg.SERIES)
        axes.set_ylim(0, 1.08 * max(high, counts.max()))
        axes.set_xlabel(x_label)
        axes.set_ylabel("count")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        outside = int(((counts < low) | (counts > high)).sum())
        return svg.inline(figure, name, f"{x_label}: {outside} of {bins} bins outside the band")


def estimates(
    name: str, x: Floats, middle: Floats, low: Floats, high: Floats, *, x_label: str, y_label: str
) -> Markup:
    """Estimates with their intervals at a few places of a logarithmic axis."""
    with svg.drawing() as (figure, axes):
        error = np.stack([middle - low, high - middle])
        axes.errorbar(x, middle, error, color=svg.SERIES, marker="o", markersize=3, capsize=2)
        axes.set_xscale("log")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        alt = f"{y_label} against {x_label}: from {middle[0]:.4g} to {middle[-1]:.4g}"
        return svg.inline(figure, name, alt)


def reliability(
    name: str, levels: Floats, curves: dict[str, tuple[Floats, Floats, Floats]]
) -> Markup:
    """Observed against nominal coverage; the diagonal is calibration.

    Args:
        name: Unique on the page.
        levels: Nominal levels in (0, 1).
        curves: By label: coverage, lower and upper end of its interval.
    """
    colours = (svg.MUTED, svg.SERIES)
    with svg.drawing() as (figure, axes):
        axes.plot([0, 100], [0, 100], color=svg.REFERENCE, linewidth=1.2, linestyle="--")
        for colour, (label, (middle, low, high)) in zip(colours, curves.items(), strict=False):
            axes.fill_between(100 * levels, 100 * low, 100 * high, color=colour, alpha=0.2, lw=0)
            axes.plot(100 * levels, 100 * middle, color=colour, marker="o", markersize=2)
            axes.annotate(
                label, (100 * levels[-1], 100 * middle[-1]), xytext=(-4, -3), ha="right", va="top",
                textcoords="offset points", color=colour,
            )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("nominal coverage [%]")
        axes.set_ylabel("observed coverage [%]")
        worst = {label: 100 * float(np.abs(c[0] - levels).max()) for label, c in curves.items()}
        told = ", ".join(f"{label} off by at most {w:.1f} points" for label, w in worst.items())
        return svg.inline(figure, name, f"Observed against nominal coverage: {told}")


def against(name: str, x: Floats, y: Floats, *, x_label: str, y_label: str) -> Markup:
    """Values against values that they should equal, with the diagonal."""
    with svg.drawing() as (figure, axes):
        low = float(min(x.min(), y.min()))
        high = float(max(x.max(), y.max()))
        axes.plot([low, high], [low, high], color=svg.REFERENCE, linewidth=1.2, linestyle="--")
        axes.plot(x, y, "o", color=svg.SERIES, markersize=2, alpha=0.35, mew=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        alt = f"{y_label} against {x_label}: correlation {np.corrcoef(x, y)[0, 1]:.2f}"
        return svg.inline(figure, name, alt)


def overlaid(
    name: str, observed: Floats, replicated: Floats, *, x_label: str, bins: int = 40
) -> Markup:
    """Histogram of what was observed, and the outline of what the model replicates."""
    cut = np.quantile(np.concatenate([observed, replicated]), [0.001, 0.999])
    edges = np.linspace(cut[0], cut[1], bins + 1)
    shares = [np.histogram(v, edges)[0] / len(v) * 100 for v in (observed, replicated)]
    with svg.drawing() as (figure, axes):
        axes.stairs(shares[0], edges, fill=True, color=svg.SERIES, alpha=0.6)
        axes.stairs(shares[1], edges, color=svg.INK, linewidth=1.4)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share [%]")
        medians = np.median(observed), np.median(replicated)
        alt = f"{x_label}: observed median {medians[0]:.3g}, replicated {medians[1]:.3g}"
        return svg.inline(figure, name, alt)
