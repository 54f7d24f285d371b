"""Rewrite the tables of the study of methods in docs/methods.md from its result files.

    python benchmarks/methods_table.py           # rewrite them
    python benchmarks/methods_table.py --check   # exit 1 if that would change the page

The files are those of ``benchmarks/methods.py``, and of ``benchmarks/performance.py methods``.
"""

import json
import sys
from pathlib import Path

from methods import BEYOND, METHODS, RATES, Study
from readme_table import COLUMNS as README_COLUMNS
from readme_table import cell
from tables import line, rewrite

from vje_pyro.evaluation import Result
from vje_pyro.evaluation.seeds import check_comparable

ROOT = Path(__file__).resolve().parents[1]
COST = ROOT / "docs" / "results" / "benchmarks" / "methods-cpu.json"
PIXELS = 16

SHOWN = ("kNN", "linear", "1 label", "5 labels", "10 labels", "RankMe")
MEMORY = ("memory, MiB", "training-v1", "peak_memory_mib", 1)
COLUMNS = (*(column for column in README_COLUMNS if column[0] in SHOWN), MEMORY)
"""Heading, protocol and figure of each column, and what the figure is multiplied by."""

NOTE = (
    "Test accuracy in %: the mean over seeds [95 % t-interval]; marked \\*: one seed, [95 % "
    "bootstrap over test images, or t-interval over draws of labels]. RankMe is that of training "
    "images, the memory the peak of the whole process, both at the end of training. Step: time of "
    "a step over that of the encoder alone, in turns in one run, median [quartiles]."
)


def search_table(study: Study) -> str:
    """Validation kNN of every training of the search; the rate that was taken is bold."""
    columns = sorted({*RATES, *BEYOND.values()})
    lines = [["method", *(f"{rate:g}" for rate in columns)], ["---"] * (len(columns) + 1)]
    for method in METHODS:
        rates = study.rates(method)
        files = {rate: study.rate_file(method, rate) for rate in rates}
        results = {rate: Result.read(path) for rate, path in files.items() if path.exists()}
        shown = dict.fromkeys(rates, "not run yet")
        shown |= {r: f"{100 * x.figures['accuracy'].value:.1f}" for r, x in results.items()}
        if len(results) > len(RATES):
            best = study.best_rate(method)
            shown[best] = f"**{shown[best]}**"
        cells = [shown.get(rate, "") for rate in columns]
        lines.append([f"`{method}`", *cells])
    return "\n".join(map(line, lines))


def results_table(study: Study) -> str:
    """A row a method, best kNN first; what has not been run comes last."""
    cost = json.loads(COST.read_text())["figures"] if COST.exists() else {}
    heading = ["method", "rate", *(column[0] for column in COLUMNS), "step", "seeds"]
    rows = []
    for method in METHODS:
        found = read(study, method)
        cells = [cell(found.get(protocol, []), *column) for _, protocol, *column in COLUMNS]
        seeds = ", ".join(str(result.seed) for result in found.get("knn-v1", []))
        if not found:
            cells[0] = "not run yet"
        rate = f"{study.best_rate(method):g}" if found else ""
        ratio = cost.get(f"{PIXELS}px_{method}_to_bound")
        step = f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else ""
        rows.append([f"`{method}`", rate, *cells, step, seeds])
    rows.sort(key=lambda row: (row[2][:1].isdigit(), row[2]), reverse=True)
    return "\n".join([*map(line, [heading, ["---"] * len(heading), *rows]), "", NOTE])


def read(study: Study, method: str) -> dict[str, list[Result]]:
    """Results of a method by protocol, each list sorted by seed.

    Raises:
        VJEError: If the results of a protocol are of different data or settings.
    """
    found: dict[str, list[Result]] = {}
    for path in study.results(method).glob("*.json"):
        result = Result.read(path)
        found.setdefault(result.protocol, []).append(result)
    for protocol, results in found.items():
        results.sort(key=lambda result: result.seed)
        check_comparable(f"{method} / {protocol}", results)
    return found


TABLES = {
    "search": ("methods.md", lambda: search_table(Study("cifar10_small"))),
    "methods": ("methods.md", lambda: results_table(Study("cifar10_small"))),
}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], ROOT / "docs", TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
