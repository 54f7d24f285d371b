"""The picture of the linear experiment: both methods against alignment, with the thresholds."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from vje_pyro.atomic import replacing

COLOURS = {"reconstruction": "tab:orange", "joint_embedding": "tab:blue"}
PANELS = {
    "accuracy": "accuracy of a linear probe",
    "irrelevant": "irrelevant share of the variance",
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Write an SVG of what ``run_experiment`` found; dashed lines are the predicted thresholds."""
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, len(result["strengths"]), sharex=True, sharey="row", squeeze=False)
    for column, (strength, found) in enumerate(result["strengths"].items()):
        axes[0, column].set_title(
            f"{strength} irrelevant features (variance {found['variance']:.3g})"
        )
        for row, (quantity, label) in enumerate(PANELS.items()):
            panel = axes[row, column]
            for method, points in found["curves"].items():
                _curve(panel, points, quantity, method)
                panel.axvline(found["thresholds"][method], color=COLOURS[method], ls="--", lw=1)
            if column == 0:
                panel.set_ylabel(label)
        axes[0, column].axhline(result["clean"], color="0.6", lw=1, label="important features only")
        axes[1, column].set_xlabel("alignment α of the views")
    axes[0, 0].set_xscale("symlog", linthresh=1)
    axes[0, 0].set_xticks([0, 0.5, 1, 2, 4, 8], ["0", "0.5", "1", "2", "4", "8"])
    axes[0, 0].xaxis.set_minor_locator(NullLocator())
    axes[0, 0].plot([], [], color="0.3", ls="--", lw=1, label="predicted threshold")
    axes[0, 0].legend(frameon=False, loc="lower right")
    # Text as text: a fraction of the size, and the same file from the same result.
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vje-pyro"}),
        replacing(path) as (file, _),
    ):
        figure.savefig(file, format=path.suffix[1:], metadata={"Date": None})


def _curve(panel: Axes, points: list[dict[str, Any]], quantity: str, method: str) -> None:
    alphas = [point["alpha"] for point in points]
    value, low, high = ([p[quantity][end] for p in points] for end in ("value", "low", "high"))
    label = method.replace("_", " ")
    panel.plot(alphas, value, color=COLOURS[method], marker="o", ms=3, label=label)
    panel.fill_between(alphas, low, high, color=COLOURS[method], alpha=0.2, lw=0)
