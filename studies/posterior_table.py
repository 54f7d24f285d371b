"""The table of the posterior: what a diagnosis found, a column for each variant."""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from studies.pivot import NONE, Row, cell, read, table
from vje_pyro.evaluation import Figure

LEVELS = {f"{100 * float(level):.0f} %": level for level in ("0.5", "0.8", "0.95")}
POSTERIOR: dict[str, Row] = {
    "KL to the prior, nats": ("latent", "kl"),
    "mutual information part": ("latent", "mutual_information"),
    "aggregate posterior part": ("latent", "aggregate_kl"),
    "active units of 256": ("latent", "active_units"),
    "Pareto k-hat, median": ("importance", "pareto_k_median"),
    "ELBO below the bound of 1000 draws, nats": ("importance", "elbo_to_bound"),
    "angle between views, observed, degrees": ("temperature", "heldout", "angle"),
    "CRPS of the angle as trained": ("temperature", "heldout", "crps_before"),
    "CRPS of the angle recalibrated": ("temperature", "heldout", "crps_after"),
    **{
        f"coverage of its {name} interval, %, {words}": ("temperature", "heldout", when, level)
        for when, words in (("coverage_before", "as trained"), ("coverage_after", "recalibrated"))
        for name, level in LEVELS.items()
    },
}
"""Where each row is in the checks of a diagnosis."""


def posterior_table(study: str, variants: Mapping[str, str], results: Path) -> str:
    """A row for each figure, a column for each of the variants, by its name in the table."""
    checks: dict[str, list[Any]] = {}
    for shown, variant in variants.items():
        for record in read(results, study, "diagnostics"):
            if record.variant == variant:
                checks.setdefault(shown, []).append(record.result.details["checks"])
    rows = (
        [row, *(_posterior_cell(where, seeds) for seeds in checks.values())]
        for row, where in POSTERIOR.items()
    )
    heading = ["", *(f"{name}, seeds: {len(seeds)}" for name, seeds in checks.items())]
    return table(heading, rows) if checks else NONE


def _posterior_cell(where: Row, seeds: Sequence[Any]) -> str:
    name = "count" if where[-1] == "active_units" else where[-1]
    name = "coverage" if where[-2].startswith("coverage") else name
    return cell(name, [_checked(checks, where) for checks in seeds])


def _checked(checks: Any, where: Row) -> Figure:
    found = reduce(lambda part, key: part[key], where, checks)
    if isinstance(found, dict):
        return Figure(*(found[name] for name in ("value", "low", "high", "n", "interval")))
    return Figure.point(found)
