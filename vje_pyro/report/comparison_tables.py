"""The tables of a comparison, as Markdown and as LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vje_pyro.report.comparison import Contender, unequal_budget, unlike_first
from vje_pyro.statistics import Figure, parts

_NOTE = (
    "Of three seeds or more the mean [95 % interval: Student's t on the logit scale of shares, "
    "Fisher's z of correlations, the log scale of positive figures]; of two seeds both; marked *: "
    "one seed, with the interval of its result file."
)


MARK = " †"
"""Follows the label of a method that was not trained like the first."""


def note(contenders: Sequence[Contender]) -> str:
    """What stands below every table."""
    keys = ", ".join(unequal_budget(contenders))
    first = contenders[0].label
    return _NOTE + (f" †: not trained like {first}; what differs: {keys}." if keys else "")


@dataclass(frozen=True)
class Cell:
    """A figure as it is shown.

    Args:
        value: The number.
        interval: Its interval, empty where there is none.
        single: Whether it is from one seed.
    """

    value: str
    interval: str = ""
    single: bool = False


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Args:
        title: What it shows.
        headings: Of the row names and of the columns.
        rows: Row names, and a cell or None for each column.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell | None, ...]], ...]


PROTOCOLS = (
    ("kNN [%]", "knn-v1", "accuracy"),
    ("linear [%]", "linear-v1", "accuracy"),
    ("linear, SGD [%]", "linear-sgd-v1", "accuracy"),
    ("1 label [%]", "few-label-v1", "accuracy_1"),
    ("5 labels [%]", "few-label-v1", "accuracy_5"),
    ("10 labels [%]", "few-label-v1", "accuracy_10"),
)
"""Heading, protocol and figure of the main table's columns; those that nobody has are left out."""

LOGGED = (
    ("RankMe", "rankme", 0),
    ("step [ms]", "step_ms", 0),
    ("peak memory [MiB]", "peak_memory", 0),
    ("training [min]", "minutes", 1),
)
"""Heading, name and decimals of what comes from the logs."""


_LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"\dag{}",
    }
)


def tables(contenders: Sequence[Contender]) -> list[Table]:
    """The main table, detection of outliers, and every other protocol that was run."""
    unlike = unlike_first(contenders)
    contenders = [
        replace(contender, label=contender.label + MARK) if other else contender
        for contender, other in zip(contenders, unlike, strict=True)
    ]
    others = {p for c in contenders for p, _ in c.figures} - {p for _, p, _ in PROTOCOLS}
    detection = {protocol for protocol in others if protocol.startswith("ood-")}
    return [
        _main(contenders),
        *([_detection(contenders, sorted(detection))] if detection else []),
        *(_plain(contenders, protocol) for protocol in sorted(others - detection)),
    ]


def _main(contenders: Sequence[Contender]) -> Table:
    accuracies = [
        c for c in PROTOCOLS if any(c[1:] in contender.figures for contender in contenders)
    ]
    logged = [c for c in LOGGED if any(c[1] in contender.logged for contender in contenders)]
    headings = ("method", *(h for h, *_ in accuracies), *(h for h, *_ in logged), "seeds")
    rows = []
    for contender in contenders:
        single = len(contender.seeds) == 1
        cells = [
            *(cell(contender.figures.get((p, f)), single, 100, 1) for _, p, f in accuracies),
            *(cell(contender.logged.get(name), single, 1, digits) for _, name, digits in logged),
            Cell(str(len(contender.seeds))),
        ]
        rows.append(((contender.label,), tuple(cells)))
    return Table("Accuracy and cost", headings, tuple(rows))


def _detection(contenders: Sequence[Contender], protocols: Sequence[str]) -> Table:
    """AUROC of every score on every set; the other figures are in the JSON."""
    headings = ("method", "score", *(protocol.split(" ", 1)[-1] for protocol in protocols))
    rows = []
    for contender in contenders:
        names = dict.fromkeys(
            name for protocol, name in contender.figures
            if protocol in protocols and name.startswith("auroc_")
        )  # fmt: skip
        for name in names:
            cells = (contender.figures.get((protocol, name)) for protocol in protocols)
            single = len(contender.seeds) == 1
            score = name.removeprefix("auroc_").replace("_", " ")
            rows.append(((contender.label, score), tuple(cell(c, single, 1, 3) for c in cells)))
    return Table("Out-of-distribution detection: AUROC", headings, tuple(rows))


def _plain(contenders: Sequence[Contender], protocol: str) -> Table:
    """A row for every figure, a column for every method."""
    names = dict.fromkeys(name for c in contenders for p, name in c.figures if p == protocol)
    rows = tuple(
        (
            (name.replace("_", " "),),
            tuple(cell(c.figures.get((protocol, name)), len(c.seeds) == 1, 1, 3)
                  for c in contenders),
        )
        for name in names
    )  # fmt: skip
    return Table(protocol, ("figure", *(c.label for c in contenders)), rows)


def cell(figure: Figure | None, single: bool, scale: float, digits: int) -> Cell | None:
    """A figure times ``scale`` with so many decimals."""
    if figure is None:
        return None
    return Cell(*parts(figure, f".{digits}f", scale), single)


def markdown(shown: Sequence[Table], below: str) -> str:
    """All tables, each under its title, and the note :func:`note` below them."""
    parts = []
    for table in shown:
        rows = [[*names, *map(_markdown_cell, cells)] for names, cells in table.rows]
        lines = [list(table.headings), ["---"] * len(table.headings), *rows]
        text = "\n".join("| " + " | ".join(_pipe(c) for c in line) + " |" for line in lines)
        parts.append(f"## {table.title}\n\n{text}\n")
    return "\n".join([*parts, below.replace("*", "\\*") + "\n"])


def latex(shown: Sequence[Table], below: str) -> str:
    """All tables as ``table`` environments of the package booktabs, each with the note."""
    parts = []
    for table in shown:
        names = len(table.rows[0][0]) if table.rows else 1
        columns = "l" * names + "r" * (len(table.headings) - names)
        body = [
            " & ".join([*map(_escape, row), *map(_latex_cell, cells)]) + r" \\"
            for row, cells in table.rows
        ]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{_escape(table.title)}. {_escape(below)}}}",
                    rf"\begin{{tabular}}{{{columns}}}",
                    r"\toprule",
                    " & ".join(map(_escape, table.headings)) + r" \\",
                    r"\midrule",
                    *body,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def _markdown_cell(shown: Cell | None) -> str:
    if shown is None:
        return "–"
    return " ".join(filter(None, [shown.value, shown.interval])) + ("\\*" if shown.single else "")


def _latex_cell(shown: Cell | None) -> str:
    if shown is None:
        return "--"
    interval = rf" {{\scriptsize {shown.interval}}}" if shown.interval else ""
    return shown.value + interval + ("*" if shown.single else "")


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def _escape(text: str) -> str:
    """User text in LaTeX."""
    return text.translate(_LATEX)
