"""Rewrite the results table of the README from result files; no figure is typed by hand.

    python benchmarks/readme_table.py           # rewrite the table
    python benchmarks/readme_table.py --check   # exit 1 if that would change the README

``--results`` and ``--readme`` name another folder and page, such as those of the ablation.

Layout. A study is a folder of ``docs/results`` and holds the result files of every method, seed
and protocol in it, as ``vje evaluate`` wrote them::

    docs/results/<study>/<method>-<features>-seed<seed>-<protocol>.json

Folders may nest; the study is the path below ``docs/results``. File names are for people: all
that the table says is read from inside the files. JSON files that are not results (a benchmark's
timings) are ignored; a damaged result is an error.

A row is a study, a method and its features. A figure from several seeds is the mean over seeds
with a 95 % t-interval over seeds; a figure from one seed keeps the interval of its file (the
bootstrap over test images; for few labels, t over draws) and is marked with an asterisk. The
files behind one cell must agree on data digest and settings, else this refuses.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from vje_pyro.atomic import write_atomic
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Result
from vje_pyro.evaluation.result import is_result
from vje_pyro.evaluation.seeds import check_comparable, over_seeds

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

COLUMNS = (
    ("kNN", "knn-v1", "accuracy", 100),
    ("linear", "linear-v1", "accuracy", 100),
    ("linear (SGD)", "linear-sgd-v1", "accuracy", 100),
    ("1 label", "few-label-v1", "accuracy_1", 100),
    ("5 labels", "few-label-v1", "accuracy_5", 100),
    ("10 labels", "few-label-v1", "accuracy_10", 100),
    ("RankMe", "training-v1", "rankme", 1),
    ("KL", "latent-v1", "kl", 1),
    ("gain by z", "latent-v1", "latent_gain", 1),
    ("gain by scale", "latent-v1", "scale_gain", 1),
)
"""Heading, protocol and figure of each column, and what the figure is multiplied by; a column that
no file fills is left out."""

PROTOCOLS = {protocol for _, protocol, _, _ in COLUMNS}
"""What the table shows; other protocols have pages of their own."""

APART = {"ablation", "methods", "sweep"}
"""Folders of studies with a page of their own (``docs/ablation.md``, ``docs/methods.md``), or of
searches, wherever they lie."""

NOTE = (
    "Test accuracy in %. Over several seeds: mean [95 % t-interval over seeds]; "
    "marked \\*: one seed, [95 % bootstrap over test images] "
    "(1, 5, 10 labels per class: mean over 10 draws [95 % t-interval over draws])."
)

NOTES = {
    "training-v1": " RankMe is that of training images at the end of training; one seed has no "
    "interval there.",
    "latent-v1": " KL of the posterior from the prior, and how much the log-likelihood of the "
    "target would lose with the z, or the scale, of another image, are in nats per datum, of test "
    "images; one seed: [95 % bootstrap over images].",
}

Row = tuple[str, str, str]


def read_studies(folder: Path) -> dict[Row, dict[str, list[Result]]]:
    """Results by row (study, method, features) and protocol, each list sorted by seed."""
    rows: dict[Row, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("*.json")):
        study = path.parent.relative_to(folder).as_posix()
        if not APART.intersection(study.split("/")) and is_result(path):
            result = Result.read(path)
            if result.protocol not in PROTOCOLS:
                continue
            rows[study, result.method, result.features][result.protocol].append(result)
    for row, protocols in rows.items():
        for protocol, results in protocols.items():
            results.sort(key=lambda result: result.seed)
            check_comparable(" / ".join((*row, protocol)), results)
    return rows


def table(rows: dict[Row, dict[str, list[Result]]]) -> str:
    """The Markdown table and the note below it."""
    if not rows:
        return "No results yet."
    found = {
        (protocol, name)
        for row in rows.values()
        for protocol, results in row.items()
        for result in results
        for name in result.figures
    }
    columns = [column for column in COLUMNS if column[1:3] in found]
    lines = [_line(["study", "method", "features", *(column[0] for column in columns), "seeds"])]
    lines.append(_line(["---"] * (len(columns) + 4)))
    for row in sorted(rows):
        cells = [
            cell(rows[row].get(protocol, []), figure, factor)
            for _, protocol, figure, factor in columns
        ]
        seeds = {len(results) for results in rows[row].values()}
        lines.append(_line([*row, *cells, "–".join(map(str, sorted(seeds)))]))
    shown = {protocol for _, protocol, _, _ in columns}
    notes = [note for protocol, note in NOTES.items() if protocol in shown]
    return "\n".join([*lines, "", "".join([NOTE, *notes])])


def update(readme: str, content: str) -> str:
    """The README's text with ``content`` between the markers.

    Raises:
        VJEError: If the markers are not there, once each and in order.
    """
    if (
        readme.count(BEGIN) != 1
        or readme.count(END) != 1
        or readme.index(BEGIN) > readme.index(END)
    ):
        raise VJEError(f"the page must hold one line {BEGIN} and after it one line {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Rewrite the results table of the README.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args(arguments)
    try:
        old = options.readme.read_text(encoding="utf-8")
        new = update(old, table(read_studies(options.results)))
    except (VJEError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if new == old:
        return 0
    if options.check:
        command = "python benchmarks/readme_table.py"
        print(f"{options.readme} is not up to date: run '{command}'", file=sys.stderr)
        return 1
    write_atomic(options.readme, new)
    return 0


def cell(results: list[Result], name: str, factor: float) -> str:
    """Mean over seeds with its interval, as the table's note says; nothing if there is none."""
    figures = [result.figures[name] for result in results if name in result.figures]
    if not figures:
        return ""
    figure = over_seeds(figures)
    value, low, high = (factor * number for number in (figure.value, figure.low, figure.high))
    interval = f" [{low:.1f}, {high:.1f}]" if figure.n > 1 else ""
    return f"{value:.1f}{interval}" + ("\\*" if len(figures) == 1 else "")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
