"""The tables of a comparison: accuracy and cost, detection, and every other protocol."""

from collections.abc import Sequence
from typing import Any

from vje_pyro.report.comparison import Contender, unequal_budget, unlike_first
from vje_pyro.report.tables import Cell, Table, cell, title, with_best, words
from vje_pyro.statistics import Figure

_NOTE = (
    "Of three seeds or more the mean [95 % interval: Student's t on the logit scale of shares, "
    "Fisher's z of correlations, the log scale of positive figures]; of two seeds both; marked *: "
    "one seed, with the interval of its result file."
)

ACCURACIES = {
    ("knn-v1", "accuracy"): "kNN [%]",
    ("linear-v1", "accuracy"): "linear [%]",
    ("linear-sgd-v1", "accuracy"): "linear, SGD [%]",
    ("few-label-v1", "accuracy_1"): "1 label [%]",
    ("few-label-v1", "accuracy_5"): "5 labels [%]",
    ("few-label-v1", "accuracy_10"): "10 labels [%]",
}
"""Heading of each accuracy by protocol and figure."""

COST = {
    "rankme": ("effective rank (RankMe)", 0),
    "step_ms": ("step [ms]", 0),
    "peak_memory": ("peak memory [MiB]", 0),
    "minutes": ("training [min]", 1),
}
"""Heading and decimals of what comes from the logs."""

CHOSEN = ("posterior-gaussian", "mahalanobis")
"""Scores for detection in order of preference: the one that training images alone chose
(docs/ood.md), and the same distance on features for a method without a posterior."""


def note(contenders: Sequence[Contender]) -> str:
    """What stands below every table."""
    keys = ", ".join(unequal_budget(contenders))
    first = contenders[0].label
    return _NOTE + (f" †: not trained like {first}; what differs: {keys}." if keys else "")


def labels(contenders: Sequence[Contender]) -> list[str]:
    """Labels of the methods; a † follows that of one that was not trained like the first."""
    unlike = unlike_first(contenders)
    return [c.label + " †" * other for c, other in zip(contenders, unlike, strict=True)]


def tables(contenders: Sequence[Contender]) -> list[Table]:
    """Accuracy, cost, detection of outliers, and every other protocol that was run."""
    others = {p for c in contenders for p, _ in c.figures} - {p for p, _ in ACCURACIES}
    detection = sorted(protocol for protocol in others if protocol.startswith("ood-"))
    return [
        *_main(contenders),
        *(_detection(contenders, detection) if detection else []),
        *(_plain(contenders, protocol) for protocol in sorted(others - set(detection))),
    ]


def chosen_scores(contenders: Sequence[Contender]) -> list[str | None]:
    """The score for detection of each method, by :data:`CHOSEN`, else its first; None without."""
    chosen = []
    for contender in contenders:
        names = [n.removeprefix("auroc_") for _, n in contender.figures if n.startswith("auroc_")]
        chosen.append(next((n for n in CHOSEN if n in names), names[0] if names else None))
    return chosen


def _main(contenders: Sequence[Contender]) -> list[Table]:
    """Accuracies, and figures of the logs; headings without any figure are left out."""
    accuracies = {
        heading: _column(contenders, [c.figures.get(key) for c in contenders], key[1], unit=False)
        for key, heading in ACCURACIES.items()
    }
    accuracies["seeds"] = [Cell(str(len(c.seeds)), number=len(c.seeds)) for c in contenders]
    cost = {
        heading: _column(contenders, [c.logged.get(name) for c in contenders], name, digits=digits)
        for name, (heading, digits) in COST.items()
    }
    made = []
    for told, columns in (("Accuracy", accuracies), ("Effective rank and cost", cost)):
        shown = {heading: cells for heading, cells in columns.items() if any(cells)}
        rows = zip(labels(contenders), zip(*shown.values(), strict=True), strict=False)
        made.append(
            Table(told, ("method", *shown), tuple(((name,), cells) for name, cells in rows))
        )
    return made


def _detection(contenders: Sequence[Contender], protocols: Sequence[str]) -> list[Table]:
    """AUROC on every set: of the chosen score of each method, and of all scores."""
    sets = tuple(protocol.split(" ", 1)[-1] for protocol in protocols)
    every = [
        (label, contender, name)
        for label, contender in zip(labels(contenders), contenders, strict=True)
        for name in dict.fromkeys(n for p, n in contender.figures if p in protocols)
        if name.startswith("auroc_")
    ]
    chosen = {
        (label, f"auroc_{score}")
        for label, score in zip(labels(contenders), chosen_scores(contenders), strict=True)
    }
    front = [row for row in every if (row[0], row[2]) in chosen]
    made = []
    heading = "Detection of images of other data sets: AUROC"
    for told, among in (("the chosen score", front), ("every score", every)):
        columns = [
            _column([c for _, c, _ in among], [c.figures.get((p, n)) for _, c, n in among], "auroc")
            for p in protocols
        ]
        names = [(label, n.removeprefix("auroc_").replace("_", " ")) for label, _, n in among]
        rows = tuple(zip(names, zip(*columns, strict=True), strict=True))
        made.append(Table(f"{heading} of {told}", ("method", "score", *sets), rows))
    return made


def _plain(contenders: Sequence[Contender], protocol: str) -> Table:
    """A row for every figure, a column for every method; the best of a row is marked."""
    names = dict.fromkeys(name for c in contenders for p, name in c.figures if p == protocol)
    rows = tuple(
        ((words(name),),
         tuple(_column(contenders, [c.figures.get((protocol, name)) for c in contenders], name)))
        for name in names
    )  # fmt: skip
    below = f"Protocol {protocol}."
    return Table(title(protocol), ("figure", *labels(contenders)), rows, below)


def _column(
    contenders: Sequence[Contender], figures: Sequence[Figure | None], name: str, **shown: Any
) -> list[Cell | None]:
    cells = [
        cell(name, figure, len(contender.seeds) == 1, **shown)
        for contender, figure in zip(contenders, figures, strict=True)
    ]
    return with_best(cells, name)
