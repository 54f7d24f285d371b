"""Can a study decide? The spread between methods beside the spread between seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import f_oneway

from studies.pivot import read, table

DECIDING = ("vje", "vicreg", "simclr", "lejepa")
DECIDED = {
    ("knn-validation-v1", "accuracy"): "kNN",
    ("linear-validation-v1", "accuracy"): "linear",
    ("few-label-validation-v1", "accuracy_10"): "10 labels",
}

SPREAD_NOTE = (
    "Standard deviations in points: of the means of the methods, and of the seeds of a method "
    "(pooled). p: F-test of equal means."
)


def spread_table(results: Path) -> str:
    """Can the study decide? A row a figure, over methods that have two seeds or more."""
    accuracies: dict[tuple[str, str], dict[str, list[float]]] = {key: {} for key in DECIDED}
    for variant, r in read(results, "decision"):
        for (protocol, name), of_variant in accuracies.items():
            if variant in DECIDING and r.features == "encoder" and r.protocol == protocol:
                of_variant.setdefault(variant, []).append(100 * r.figures[name].value)
    lines = []
    for key, shown in DECIDED.items():
        groups = [values for values in accuracies[key].values() if len(values) > 1]
        if len(groups) > 1:
            methods, seeds = spreads(groups)
            p = f_oneway(*groups).pvalue
            row = f"{methods:.2f} {seeds:.2f} {methods / seeds:.1f} {p:.1g} {len(groups)}".split()
            lines.append([shown, *row])
    heading = ["accuracy", "between methods", "between seeds", "ratio", "p", "methods"]
    return table(heading, lines, SPREAD_NOTE)


def spreads(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Standard deviation of the groups' means, and the pooled one within groups."""
    within = sum(np.var(g, ddof=1) * (len(g) - 1) for g in groups)
    freedom = sum(len(g) - 1 for g in groups)
    means = [np.mean(g) for g in groups]
    return float(np.std(means, ddof=1)), float(np.sqrt(within / freedom))
