"""Tables of figures: how a number is shown, which is best, and tables as Markdown and LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vje_pyro.statistics import Figure, parts

PERCENT = re.compile(r"(^|_)(train_)?accuracy|coverage|_(angle|radius)-\d+$|^fpr95")
"""Names of figures that are shares of images; these alone are shown in percent."""

LESS_IS_BETTER = re.compile(r"^(aurc|nll|ece|fpr95|calibration|crps|step_ms|peak_memory|minutes)")
MORE_IS_BETTER = re.compile(r"accuracy|^(auroc|aupr|r-auroc|severity|human|crop)")

TITLES = {
    "knn": "Classification by nearest neighbours",
    "linear": "Classification by a linear layer",
    "linear-sgd": "Classification by a linear layer, trained with SGD",
    "few-label": "Classification from few labels",
    "bayes-heads": "Calibrated classifiers from few labels",
    "ood": "Detection of images of other data sets",
    "one-class": "Detection of images of other classes",
    "uncertainty": "Uncertainty and errors, human disagreement, corruptions, crops",
    "many-views": "Calibration of posteriors of several views",
}
"""What a protocol measures, in words."""

_ACRONYMS = re.compile(r"\b(auroc|aurc|aupr|nll|ece|elbo|kl|crps|knn|niw|rmd|fpr95)\b")
_LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"\dag{}",
    }
)


@dataclass(frozen=True)
class Cell:
    """A figure as it is shown.

    Args:
        value: The number in words.
        interval: Its interval, empty where there is none.
        number: By which a column is sorted.
        single: Whether it is from one seed.
        best: Whether it is the best of its column.
    """

    value: str
    interval: str = ""
    number: float = 0.0
    single: bool = False
    best: bool = False

    @property
    def text(self) -> str:
        """Value and interval, with a star where it is from one seed."""
        return " ".join(filter(None, [self.value, self.interval])) + "*" * self.single


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Args:
        title: What it shows.
        headings: Of the row names and of the columns.
        rows: Row names, and a cell or None for each column.
        below: Small print.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell | None, ...]], ...]
    below: str = ""

    @property
    def needs(self) -> str:
        """Class of the width in rem below which every row is shown as a card."""
        rem = 6.5 * len(self.headings) if len(self.headings) < 5 else 5.6 * len(self.headings)
        return next(
            (f"needs-{width}" for width in (20, 30, 40, 48, 58, 75) if rem <= width), "needs-999"
        )


def title(protocol: str) -> str:
    """What a protocol measures, in words.

    >>> title("knn-v1")
    'Classification by nearest neighbours'
    """
    name = re.sub(r"-v\d+( |$)", r"\1", protocol)
    return TITLES.get(name, name.replace("-", " ").capitalize())


def words(name: str) -> str:
    """The name of a figure in words.

    >>> words("accuracy_5"), words("train_accuracy"), words("aurc_knn_probe-entropy")
    ('accuracy, 5 labels a class', 'train accuracy', 'AURC, kNN, probe-entropy')
    """
    if few := re.fullmatch(r"accuracy(_.+)?_(\d+)", name):
        who = (few[1] or "").replace("_", ", ")
        return f"accuracy{who}, {few[2]} {'label' if few[2] == '1' else 'labels'} a class"
    if views := re.fullmatch(r"views-(\d+)_(.+)", name):
        return f"{views[2]}, {views[1]} {'view' if views[1] == '1' else 'views'}"
    spaced = name.replace("train_", "train ").replace("_", ", ")
    return _ACRONYMS.sub(lambda found: found[0].upper().replace("KNN", "kNN"), spaced)


def cell(
    name: str,
    figure: Figure | None,
    single: bool = False,
    digits: int | None = None,
    unit: bool = True,
) -> Cell | None:
    """A figure as it is shown: shares of images in percent, what else in its own unit.

    Args:
        name: Of the figure.
        figure: What was measured; None if it was not.
        single: Whether it is from one seed.
        digits: Decimals; None chooses by size.
        unit: Whether a percent sign follows, where the heading does not say it.
    """
    if figure is None:
        return None
    percent = bool(PERCENT.search(name))
    if digits is None:
        digits = 1 if percent else 3 if abs(figure.value) < 10 else 1
    value, interval = parts(figure, f",.{digits}f", 100 if percent else 1)
    value += " %" if percent and unit else ""
    return Cell(value, interval, figure.value, single)


def with_best(column: Sequence[Cell | None], name: str) -> list[Cell | None]:
    """The cells of a column with the best one marked, if the figure's name says what is better."""
    found = [cell for cell in column if cell is not None]
    sign = -1 if LESS_IS_BETTER.search(name) else 1 if MORE_IS_BETTER.search(name) else 0
    if len(found) < 2 or not sign:
        return list(column)
    top = max(sign * cell.number for cell in found)
    return [
        replace(cell, best=True) if cell is not None and sign * cell.number == top else cell
        for cell in column
    ]


def markdown(shown: Sequence[Table], below: str) -> str:
    """All tables, each under its title, and a note below them; the best of a column is bold."""

    def text(cell: Cell | None) -> str:
        if cell is None:
            return "–"
        star = "\\*" if cell.text.endswith("*") else ""
        bare = cell.text.removesuffix("*")
        return (f"**{bare}**" if cell.best else bare) + star

    parts = []
    for table in shown:
        body = [[*names, *map(text, cells)] for names, cells in table.rows]
        lines = [list(table.headings), ["---"] * len(table.headings), *body]
        drawn = "\n".join(
            "| " + " | ".join(part.replace("|", "\\|") for part in line) + " |" for line in lines
        )
        parts.append(f"## {table.title}\n\n{drawn}\n")
    return "\n".join([*parts, below.replace("*", "\\*") + "\n"])


def latex(shown: Sequence[Table], below: str) -> str:
    """All tables as ``table`` environments of the package booktabs, each with the note."""

    def escape(text: str) -> str:
        return text.translate(_LATEX)

    def typeset(cell: Cell | None) -> str:
        if cell is None:
            return "--"
        value = rf"\textbf{{{escape(cell.value)}}}" if cell.best else escape(cell.value)
        interval = rf" {{\scriptsize {cell.interval}}}" if cell.interval else ""
        return value + interval + ("*" if cell.text.endswith("*") else "")

    parts = ["% needs \\usepackage{booktabs}"]
    for table in shown:
        names = len(table.rows[0][0]) if table.rows else 1
        columns = "l" * names + "r" * (len(table.headings) - names)
        body = [
            " & ".join([*map(escape, row), *map(typeset, cells)]) + r" \\"
            for row, cells in table.rows
        ]
        parts += [
            rf"\begin{{table}}\caption{{{escape(table.title)}. {escape(below)}}}",
            rf"\begin{{tabular}}{{{columns}}}\toprule",
            " & ".join(map(escape, table.headings)) + r" \\ \midrule",
            *body,
            "\\bottomrule\\end{tabular}\\end{table}\n",
        ]
    return "\n".join(parts)
