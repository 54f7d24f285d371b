"""Rewrite the tables of the posterior: docs/aggregate.md, without and with the aggregate term, and
docs/objectives.md, under the objectives.

    python benchmarks/posterior_table.py           # rewrite it
    python benchmarks/posterior_table.py --check   # exit 1 if that would change the page

The files are those of ``benchmarks/posterior.py``: for both VJE of the study of methods, and for
the runs of docs/objectives.md.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import partial, reduce
from pathlib import Path
from typing import Any

from tables import line, rewrite

from vje_pyro.evaluation import Figure
from vje_pyro.evaluation.seeds import over_seeds

DOCS = Path(__file__).resolve().parents[1] / "docs"
STUDIES = {"plain": "methods-vje", "recommended": "methods-vje-recommended"}
OBJECTIVES = {name: f"digits-objective-{name}" for name in ("conditional", "joint", "predictive")}

LEVELS = {f"{100 * float(level):.0f} %": level for level in ("0.5", "0.8", "0.95")}
ROWS: dict[str, tuple[str, ...]] = {
    "KL to the prior, nats": ("latent", "kl"),
    "of it mutual information": ("latent", "mutual_information"),
    "of it aggregate posterior to the prior": ("latent", "aggregate_kl"),
    "active units of 256": ("latent", "active_units"),
    "Pareto k-hat, median": ("importance", "pareto_k_median"),
    "ELBO below the bound of 1000 draws, nats": ("importance", "elbo_to_bound"),
    "angle between views, observed, degrees": ("temperature", "heldout", "angle"),
    "its CRPS as trained": ("temperature", "heldout", "crps_before"),
    "its CRPS recalibrated": ("temperature", "heldout", "crps_after"),
    **{
        f"coverage of its {name} interval, {words}": ("temperature", "heldout", when, level)
        for when, words in (("coverage_before", "as trained"), ("coverage_after", "recalibrated"))
        for name, level in LEVELS.items()
    },
}
"""Where each row is in the checks of a file."""


def posterior_table(results: Path = DOCS / "results", studies: Mapping[str, str] = STUDIES) -> str:
    """A row for each figure, a column for each of the models."""
    read = {
        name: [json.loads(file.read_text())["checks"] for file in sorted(files)]
        for name, study in studies.items()
        if (files := list((results / "diagnostics").glob(f"{study}-seed*.json")))
    }
    if not read:
        return "No results yet."
    heading = ["", *(f"{name}, seeds: {len(seeds)}" for name, seeds in read.items())]
    rows = [[row, *(cell(seeds, where) for seeds in read.values())] for row, where in ROWS.items()]
    return "\n".join(map(line, [heading, ["---"] * len(heading), *rows]))


def cell(seeds: list[dict[str, Any]], where: tuple[str, ...]) -> str:
    """Mean over seeds with its interval; that of one seed is over images, if it has one."""
    found = [reduce(lambda part, key: part[key], where, checks) for checks in seeds]
    figures = [
        Figure(**{f.name: x[f.name] for f in fields(Figure)})
        if isinstance(x, dict)
        else Figure(x, x, x, 1, "none")
        for x in found
    ]
    figure = over_seeds(figures)
    if figure.low == figure.high:
        return f"{figure.value:.4g}"
    mark = "\\*" if len(figures) == 1 else ""
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]{mark}"


TABLES = {
    "posterior": ("aggregate.md", posterior_table),
    "objectives": ("objectives.md", partial(posterior_table, studies=OBJECTIVES)),
}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
