"""Rewrite the tables of docs/ood.md and docs/uncertainty.md from result files.

    python benchmarks/ood_table.py           # rewrite the tables
    python benchmarks/ood_table.py --check   # exit 1 if that would change a page

A figure from several seeds is their mean with a 95 % t-interval; one from a single seed keeps the
bootstrap interval of its file and is marked with an asterisk. Seeds that differ in data or settings
are refused.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from tables import line, rewrite

from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable, over_seeds

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results"


def ood_table() -> str:
    """AUROC of every score: a row for each study, method and score, a column for each set."""
    found, sets = defaultdict(lambda: defaultdict(list)), set()
    for study, result in read("ood"):
        column = result.dataset["out"]
        sets.add(column)
        for name, figure in result.figures.items():
            if name.startswith("auroc_"):
                row = (study, result.method, name.removeprefix("auroc_"))
                found[row][column].append(figure)
    return table(["study", "method", "score"], sorted(sets), found)


def one_class_table() -> str:
    """Mean AUROC over the classes."""
    found = defaultdict(lambda: defaultdict(list))
    for study, result in read("one_class"):
        for name, figure in result.figures.items():
            if name.count("_") == 1:
                row = (study, result.method, name.removeprefix("auroc_"))
                found[row]["mean AUROC"].append(figure)
    return table(["study", "method", "score"], ["mean AUROC"], found)


def uncertainty_table() -> str:
    """A row for each study, method and figure, a column for each uncertainty."""
    found, columns = defaultdict(lambda: defaultdict(list)), []
    for study, result in read("uncertainty"):
        for name, figure in result.figures.items():
            what, uncertainty = name.rsplit("_", 1)
            if uncertainty == "angle":
                what, uncertainty = name, "posterior"
            columns += [uncertainty] if uncertainty not in columns else []
            found[study, result.method, what][uncertainty].append(figure)
    return table(["study", "method", "figure"], columns, found)


def choice_table() -> str:
    """Merits of the scores, by run."""
    runs = [json.loads(path.read_text()) for path in sorted((RESULTS / "ood/choice").glob("*"))]
    kinds = ("spoiled", "class_left_out", "merit")
    names = ["aggregate term" if run["aggregate"] else "plain" for run in runs]
    heading = [f"{name}: {kind.replace('_', ' ')}" for name in names for kind in kinds]
    merits = [run["merits"] for run in runs]
    order = sorted(merits[0], key=lambda score: -sum(m[score]["merit"] for m in merits))
    rows = ([f"`{s}`", *(f"{m[s][kind]:.3f}" for m in merits for kind in kinds)] for s in order)
    return "\n".join(map(line, [["score", *heading], ["---"] * (len(heading) + 1), *rows]))


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "choice": ("ood.md", choice_table),
    "ood": ("ood.md", ood_table),
    "one-class": ("ood.md", one_class_table),
    "uncertainty": ("uncertainty.md", uncertainty_table),
}


def read(folder: str) -> Iterable[tuple[str, Result]]:
    """Every result below a folder, with its study, by seed.

    Raises:
        VJEError: If seeds of one study are not repetitions of one experiment.
    """
    groups = defaultdict(list)
    for path in sorted((RESULTS / folder).glob("*/*-v1*.json")):
        result = Result.read(path)
        groups[path.parent.name, result.method, result.dataset.get("out", "")].append(result)
    for (study, *_), results in groups.items():
        check_comparable(f"{folder}/{study}", results)
        yield from ((study, result) for result in results)


def table(names: list[str], columns: list[str], rows: dict) -> str:
    """Markdown, rows in the order they were found."""
    lines = [[*names, *columns, "seeds"], ["---"] * (len(names) + len(columns) + 1)]
    for row, figures in rows.items():
        seeds = str(max(map(len, figures.values())))
        lines.append([*map(str, row), *(cell(figures.get(c, [])) for c in columns), seeds])
    return "\n".join(map(line, lines)) if rows else "No results yet."


def cell(figures: list[Figure]) -> str:
    """Value and interval."""
    if not figures:
        return ""
    figure = over_seeds(figures)
    mark = "\\*" if len(figures) == 1 else ""
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]{mark}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the pages; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
