"""Rewrite the table of docs/studies/recipe.md from the result files of ``benchmarks/recipe.py``.

python benchmarks/recipe_table.py           # rewrite it
python benchmarks/recipe_table.py --check   # exit 1 if that would change the page
"""

import sys
from pathlib import Path

from methods import on_validation
from recipe import CHANGES, FEATURES, PROTOCOLS, Change
from tables import line, rewrite

from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import over_seeds

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results" / "recipe"

NOTE = (
    "Validation accuracy in %. Marked \\*: one seed, [95 % bootstrap over images]; else the mean "
    "over seeds [95 % t-interval]. A gain is over the centre's encoder features, in points, the "
    "mean over the seeds that both have."
)

Figures = dict[int, Figure]


def read(variant: str, features: str, protocol: str) -> Figures:
    """Accuracy by seed."""
    pattern = f"*-{features}-seed*-{on_validation(protocol)}.json"
    results = [Result.read(path) for path in sorted((RESULTS / variant).glob(pattern))]
    return {result.seed: result.figures["accuracy"] for result in results}


def table() -> str:
    """A row a variant, and one for each place where the centre's features are read."""
    rows = [(name, change, name, "encoder") for name, change in CHANGES.items()]
    rows += [(f"centre, {name}", {}, "centre", name) for name in FEATURES if name != "encoder"]
    centre = [read("centre", "encoder", protocol) for protocol in PROTOCOLS]
    heading = ["variant", "changes", "kNN", "gain", "linear", "gain", "seeds"]
    lines = [heading, ["---"] * len(heading)]
    for shown, change, variant, features in rows:
        found = [read(variant, features, protocol) for protocol in PROTOCOLS]
        pairs = zip(found, centre, strict=True)
        cells = [cell for mine, other in pairs for cell in (show(mine), gain(mine, other))]
        if not any(found):
            cells = ["not run yet", "", "", ""]
        seeds = ", ".join(map(str, sorted(found[0])))
        lines.append([f"`{shown}`", describe(change), *cells, seeds])
    return "\n".join([*map(line, lines), "", NOTE])


def describe(change: Change) -> str:
    """The settings of a change."""
    return ", ".join(f"`{key}={value}`" for key, value in change.items() if value is not None)


def show(figures: Figures) -> str:
    """Accuracy with its interval."""
    if not figures:
        return ""
    figure = over_seeds(list(figures.values()))
    value, low, high = (f"{100 * x:.1f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} [{low}, {high}]" + "\\*" * (len(figures) == 1)


def gain(figures: Figures, centre: Figures) -> str:
    """Mean difference in points over the seeds of both."""
    seeds = figures.keys() & centre.keys()
    if not seeds or figures == centre:
        return ""
    return f"{sum(100 * (figures[s].value - centre[s].value) for s in seeds) / len(seeds):+.1f}"


TABLES = {"outcomes": ("studies/recipe.md", table)}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
