"""Rewrite the tables of docs/ood.md and docs/uncertainty.md from result files.

    python benchmarks/ood_table.py           # rewrite the tables
    python benchmarks/ood_table.py --check   # exit 1 if that would change a page

A figure from several seeds is their mean with a 95 % t-interval; one from a single seed keeps the
bootstrap interval of its file and is marked with an asterisk. Seeds that differ in data or settings
are refused.

The folders ``methods-NAME`` are those of the study of methods (benchmarks/methods.py); they have
tables of their own, where the methods stand below each other, score by score.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from tables import line, rewrite

from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable, over_seeds

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results"
METHODS = "methods-"


Cell = tuple[tuple[str, ...], str, Figure]
"""Names of its row, its column, and one seed's figure."""


def ood_table() -> str:
    """AUROC of every score: a row for each study, method and score, a column for each set."""
    cells = (
        ((study, result.method, score), result.dataset["out"], figure)
        for study, result in alone("ood")
        for score, figure in aurocs(result)
    )
    return table(["study", "method", "score"], cells)


def methods_ood_table(scores: Sequence[str] = ()) -> str:
    """The study of methods: a row for each score, or each of those named, and method."""
    cells = (
        ((score, f"`{method}`"), result.dataset["out"], figure)
        for method, result in of_methods("ood")
        for score, figure in aurocs(result)
        if not scores or score in scores
    )
    return table(["score", "method"], together(cells))


FEW = ("mahalanobis", "niw", "vim", "posterior-gaussian", "niw-latent", "dose", "elbo")
"""Scores that are shown first: on features, with labels, of the model, the naive one."""


def one_class_table() -> str:
    """Mean AUROC over the classes."""
    cells = (
        ((study, result.method, score), "mean AUROC", figure)
        for study, result in read("one_class")
        for score, figure in aurocs(result)
        if "_" not in score  # those of a class end in its number
    )
    return table(["study", "method", "score"], cells)


def aurocs(result: Result) -> Iterable[tuple[str, Figure]]:
    """Scores with their AUROC."""
    for name, figure in result.figures.items():
        if name.startswith("auroc_"):
            yield name.removeprefix("auroc_"), figure


def uncertainty_table() -> str:
    """A row for each study, method and figure, a column for each uncertainty."""
    cells = (
        ((study, result.method, what), uncertainty, figure)
        for study, result in alone("uncertainty")
        for what, uncertainty, figure in uncertainties(result)
    )
    return table(["study", "method", "figure"], cells)


def methods_uncertainty_table() -> str:
    """The study of methods: a row for each figure and method, a column for each uncertainty.

    The error rates of the classifiers and the AURC of the best order are the ends of the scale of
    an AURC, which differ from method to method. Every method has a row in every figure.
    """
    cells = (
        ((what, f"`{method}`"), column, figure)
        for method, result in of_methods("uncertainty")
        for what, column, figure in (*ends(result), *uncertainties(result))
    )
    found = together(cells)
    figures, methods = (list(dict.fromkeys(row[i] for row, _, _ in found)) for i in (0, 1))
    return table(["figure", "method"], found, product(figures, methods))


def uncertainties(result: Result) -> Iterable[tuple[str, str, Figure]]:
    """What is measured, of which uncertainty, and the figure."""
    for name, figure in result.figures.items():
        if name.startswith("views-"):
            continue
        what, uncertainty = name.rsplit("_", 1)
        yield (name, "posterior", figure) if uncertainty == "angle" else (what, uncertainty, figure)


def views_table() -> str:
    """What a posterior gains from more views: a row for each study and number of views."""
    cells = (
        ((study.removeprefix(METHODS), match[1]), match[2].replace("_", " "), figure)
        for study, result in read("uncertainty")
        for name, figure in result.figures.items()
        if (match := re.fullmatch(r"views-(\d+)_(.*)", name))
    )
    return table(["study", "views"], cells)


def ends(result: Result) -> Iterable[tuple[str, str, Figure]]:
    """Both ends of the scale of each AURC, which have no interval of their own."""
    for name, value in result.details.items():
        end, _, classifier = name.rpartition("_")
        if end in ENDS:
            yield f"aurc_{classifier}", ENDS[end], Figure(value, value, value, 1, "none")


ENDS = {"error": "error rate", "best_aurc": "best order"}
"""Details of the uncertainty protocol and their columns."""


def together(cells: Iterable[Cell]) -> list[Cell]:
    """Rows with the same first name below each other, else in the order they were found."""
    found = list(cells)
    first = list(dict.fromkeys(row[0] for row, _, _ in found))
    return sorted(found, key=lambda cell: first.index(cell[0][0]))


def choice_table() -> str:
    """Merits of the scores, by run; a dash where a run was judged before there was a score."""
    files = sorted((RESULTS / "ood/choice").glob("*.json"))
    merits = {path.stem: json.loads(path.read_text())["merits"] for path in files}
    kinds = ("spoiled", "class_left_out", "merit")
    heading = [f"{run}: {kind.replace('_', ' ')}" for run in merits for kind in kinds]
    found = {score for scores in merits.values() for score in scores}

    def mean_merit(score: str) -> float:
        return float(np.mean([m[score]["merit"] for m in merits.values() if score in m]))

    def shown(score: str) -> list[str]:
        measured = [m.get(score, {}).get(kind) for m in merits.values() for kind in kinds]
        return ["–" if value is None else f"{value:.3f}" for value in measured]

    order = sorted(found, key=lambda score: (-mean_merit(score), score))
    rows = ([f"`{score}`", *shown(score)] for score in order)
    return "\n".join(map(line, [["score", *heading], ["---"] * (len(heading) + 1), *rows]))


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "choice": ("ood.md", choice_table),
    "ood": ("ood.md", ood_table),
    "one-class": ("ood.md", one_class_table),
    "uncertainty": ("uncertainty.md", uncertainty_table),
    "uncertainty-views": ("uncertainty.md", views_table),
    "ood-methods-few": ("ood.md", lambda: methods_ood_table(FEW)),
    "ood-methods": ("ood.md", methods_ood_table),
    "uncertainty-methods": ("uncertainty.md", methods_uncertainty_table),
}


def alone(folder: str) -> Iterable[tuple[str, Result]]:
    """What is in no comparison: the results that are not of the study of methods."""
    return ((study, result) for study, result in read(folder) if not study.startswith(METHODS))


def of_methods(folder: str) -> Iterable[tuple[str, Result]]:
    """Results of the study of methods, with the method's name in that study."""
    for study, result in read(folder):
        if study.startswith(METHODS):
            yield study.removeprefix(METHODS), result


def read(folder: str) -> Iterable[tuple[str, Result]]:
    """Every result below a folder, with its study, by seed.

    Of a study that has results of two versions of a protocol, those of the newer one.

    Raises:
        VJEError: If seeds of one study are not repetitions of one experiment.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for path in sorted((RESULTS / folder).glob("*/*-v[0-9]*.json")):
        result = Result.read(path)
        group = groups[path.parent.name, result.method, result.dataset.get("out", "")]
        group[result.protocol].append(result)
    for (study, *_), versions in groups.items():
        results = versions[max(versions)]
        check_comparable(f"{folder}/{study}", results)
        yield from ((study, result) for result in results)


def table(names: list[str], cells: Iterable[Cell], rows: Iterable[tuple[str, ...]] = ()) -> str:
    """Markdown, rows and columns in the order they were found, after the rows that are named."""
    found = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row] = defaultdict(list)
    for row, column, figure in cells:
        found[row][column].append(figure)
    columns = list(dict.fromkeys(column for figures in found.values() for column in figures))
    lines = [[*names, *columns, "seeds"], ["---"] * (len(names) + len(columns) + 1)]
    for row, figures in found.items():
        seeds = str(max(map(len, figures.values()), default=0))
        lines.append([*row, *(cell(figures.get(c, [])) for c in columns), seeds])
    return "\n".join(map(line, lines)) if found else "No results yet."


def cell(figures: list[Figure]) -> str:
    """Value and interval, if it has one; a dash where nothing was measured."""
    if not figures:
        return "–"
    figure = over_seeds(figures)
    if figure.low == figure.high:
        return f"{figure.value:.3f}"
    mark = "\\*" if len(figures) == 1 else ""
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]{mark}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the pages; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
