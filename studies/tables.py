"""The tables of README and docs, each between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

A table is an entry of :data:`TABLES`: its page, its name, and what makes its rows from stored
results. A figure of three seeds or more is their mean with a 95 % interval in the figure's range
(:mod:`vje_pyro.statistics`); two seeds are shown both; one keeps the interval of its result and is
marked with an asterisk. Accuracies, coverage and other shares of images are in %; areas under
curves and correlations are numbers. Seeds that differ in data or settings are refused.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import f_oneway

from studies import ROOT
from studies.outlier_choice import merits
from studies.store import Record, Store
from studies.study import Study
from vje_pyro.atomic import write_atomic
from vje_pyro.diagnostics import load_check
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable
from vje_pyro.names import CHECKS
from vje_pyro.reading import load_json
from vje_pyro.statistics import CORRELATION, SHARE, over_seeds, parts, scale_of, show

Row = tuple[str, ...]

NONE = "No results yet."
PERCENT = re.compile(r"(views-\d+_)?(accuracy|angle-|radius-|rank-alarms|coverage)")
"""Figures that are shown in %."""


def table(heading: Iterable[str], rows: Iterable[Iterable[str]], note: str = "") -> str:
    """Markdown."""
    names = list(heading)
    lines = [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]
    return "\n".join([*lines, *(["", note] if note else [])])


def cell(name: str, figures: Sequence[Figure], blank: str = "") -> str:
    """A figure of all seeds as it is shown; ``blank`` where nothing was measured."""
    if not figures:
        return blank
    scale = scale_of(name)
    figure = over_seeds(figures, scale)
    bounded = scale in (SHARE, CORRELATION) or abs(figure.value) < 10
    form, factor = (".1f", 100) if PERCENT.match(name) else (".3f" if bounded else ".1f", 1)
    form = ".0f" if name == "count" else form
    return show(figure, form, factor) + "\\*" * (len(figures) == 1 and parts(figure)[1] != "")


def read(results: Path, study: str, *protocols: str) -> list[Record]:
    """Results of a study by variant and seed: of all protocols, or of those named, newest version.

    Raises:
        VJEError: Seeds of a variant are not repetitions of one experiment.
    """
    groups: dict[tuple[Any, ...], dict[int, list[Record]]] = {}
    for record in sorted(Store(results).read(study), key=_order):
        variant, protocol, features, _, part = record.key
        name, version = str(protocol).rsplit("-v", 1)
        if not protocols or name in protocols:
            key = variant, record.result.method, features, name, part
            groups.setdefault(key, {}).setdefault(int(version), []).append(record)
    newest = {key: versions[max(versions)] for key, versions in groups.items()}
    for (variant, *_, name, _), records in newest.items():
        check_comparable(f"{study}, {variant}, {name}", [record.result for record in records])
    return sorted((record for records in newest.values() for record in records), key=_order)


def _order(record: Record) -> tuple[Any, ...]:
    r = record.result
    return record.variant, r.method, r.features, r.seed, r.protocol, record.key[-1]


@dataclass(frozen=True)
class Pivot:
    """Figures of results, a row and a column each by their names, in the order they are found.

    Args:
        studies: Whose results.
        protocols: Names without version; all when empty.
        rows: Headings of the row's names, and each as a format of ``variant``, ``method``,
            ``features``, ``out`` and the groups of the pattern.
        pattern: Of the names of the figures that are shown.
        column: Format of the column's heading.
        columns: Instead of these the columns that are shown, ``"PROTOCOL FIGURE"`` with heading.
        scores: Only these values of the pattern's ``score``; all when empty.
        ends: Also both ends of the scale of each AURC, and a row for each pair of row names.
        note: Below the table.
    """

    studies: Row
    protocols: Row
    rows: Mapping[str, str]
    pattern: str = ".+"
    column: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    scores: Row = ()
    ends: bool = False
    note: str = ""

    def __call__(self, results: Path) -> str:
        """The table, from the folder of results."""
        found: dict[Row, dict[str, list[Figure]]] = {}
        names: dict[tuple[Row, str], str] = {}
        for row, column, name, figure in self._cells(results):
            found.setdefault(row, {}).setdefault(column, []).append(figure)
            names[row, column] = name
        if not found:
            return NONE
        columns = list(dict.fromkeys(c for figures in found.values() for c in figures))
        columns.sort(key=[*self.columns.values(), *columns].index)
        lines = []
        for row in self._order(found):
            figures = found.get(row, {})
            cells = (cell(names.get((row, c), ""), figures.get(c, []), "–") for c in columns)
            seeds = sorted({len(each) for each in figures.values()}) or [0]
            lines.append([*row, *cells, "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))])
        return table([*self.rows, *columns, "seeds"], lines, self.note)

    def _order(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Rows with the same first name below each other; with ``ends`` all pairs of names."""
        first, second = (list(dict.fromkeys(names)) for names in list(zip(*rows, strict=True))[:2])
        if self.ends:
            return product(first, second)
        return sorted(rows, key=lambda row: first.index(row[0]))

    def _cells(self, results: Path) -> Iterator[tuple[Row, str, str, Figure]]:
        records = (x for study in self.studies for x in read(results, study, *self.protocols))
        for variant, r in records:
            for name, figure in (*(ends(r) if self.ends else ()), *r.figures.items()):
                match = re.fullmatch(self.pattern, name)
                if match is None or (self.scores and match["score"] not in self.scores):
                    continue
                words = {"out": r.dataset.get("out", "mean AUROC"), **match.groupdict("posterior")}
                words |= {"variant": variant, "method": r.method, "features": r.features}
                column = self.column.format(**words)
                if self.columns:
                    column = self.columns.get(f"{r.protocol} {name}", "")
                elif PERCENT.match(name):
                    column += ", %"
                if column:
                    yield tuple(x.format(**words) for x in self.rows.values()), column, name, figure


ENDS = {"error": "error rate", "best_aurc": "best order"}
"""Details of the uncertainty protocol and their columns."""


def ends(result: Result) -> Iterator[tuple[str, Figure]]:
    """Both ends of the scale of each AURC, which have no interval of their own."""
    for name, value in result.details.items():
        end, _, classifier = name.rpartition("_")
        if end in ENDS:
            yield f"aurc_{classifier}_{ENDS[end]}", Figure.point(value)


# ---------------------------------------------------------------------------------- accuracies

COLUMNS = {
    "knn-v1 accuracy": "kNN",
    "linear-v1 accuracy": "linear",
    "linear-sgd-v1 accuracy": "linear (SGD)",
    "few-label-v1 accuracy_1": "1 label",
    "few-label-v1 accuracy_5": "5 labels",
    "few-label-v1 accuracy_10": "10 labels",
    "training-v1 rankme": "RankMe",
    "latent-v1 kl": "KL",
    "latent-v1 latent_gain": "gain by z",
    "latent-v1 scale_gain": "gain by scale",
}
ACCURACY_NOTE = (
    "Test accuracy in %. Of three seeds or more: mean [95 % t-interval on the logit scale]; of "
    "two: both; marked \\*: one seed, [95 % bootstrap over test images] "
    "(1, 5, 10 labels per class: mean over 10 draws [95 % t-interval over draws])."
)
OTHER_NOTE = (
    " RankMe is that of training images at the end of training; one seed has no interval there. "
    "KL of the posterior from the prior, and how much the log-likelihood of the "
    "target would lose with the z, or the scale, of another image, are in nats per datum, of test "
    "images; one seed: [95 % bootstrap over images]."
)


def accuracies(study: str, note: str = ACCURACY_NOTE) -> Pivot:
    """A row a variant, method and features."""
    rows = {"study": "{variant}", "method": "{method}", "features": "{features}"}
    return Pivot((study,), (), rows, columns=COLUMNS, note=note)


METHODS_NOTE = (
    "Test accuracy in %: the mean over seeds [95 % t-interval], two seeds both; marked \\*: one "
    "seed, [95 % bootstrap over test images, or t-interval over draws of labels]. RankMe is that "
    "of training images, the memory the peak of the whole process, both at the end of training. "
    "Step: time of a step over that of the encoder alone, in turns in one run, median [quartiles]."
)


def methods_table(results: Path) -> str:
    """A row a method, best kNN first; what has not been run comes last."""
    left_out = ("linear (SGD)", "KL", "gain by z", "gain by scale")
    columns = {key: shown for key, shown in COLUMNS.items() if shown not in left_out}
    columns["training-v1 peak_memory_mib"] = "memory, MiB"
    study, records = Study.read("methods"), read(results, "methods")
    path = results / "benchmarks" / "methods-cpu.json"
    cost = benchmark(results, "methods")["figures"] if path.exists() else {}
    rows = []
    for method in study.variants:
        own = [r.result for r in records if r.variant == method]
        cells = [
            cell(name, [r.figures[name] for r in own if r.protocol == p and name in r.figures])
            for p, name in map(str.split, columns)
        ]
        seeds = ", ".join(str(r.seed) for r in own if r.protocol == "knn-v1")
        rate = study.best_rate(records, method)
        rate_shown = f"{rate:g}" if seeds and rate else ""
        ratio = cost.get(f"16px_{method}_to_bound")
        cells[0] = cells[0] or "not run yet"
        rows.append([f"`{method}`", rate_shown, *cells, quartiles(ratio) if ratio else "", seeds])
    rows.sort(key=lambda row: (row[2][:1].isdigit(), row[2]), reverse=True)
    return table(["method", "rate", *columns.values(), "step", "seeds"], rows, METHODS_NOTE)


def search_table(results: Path) -> str:
    """Validation kNN of every training of the search; the rate that was taken is bold."""
    study, records = Study.read("methods"), Store(results).read("methods")
    assert study.search is not None
    beyond = study.search["beyond"].values()
    columns = sorted({float(rate) for rate in (*study.search["rates"], *beyond)})
    rows = []
    for method in study.variants:
        scores = study.scores(records, method)
        shown = dict.fromkeys(study.rates(records, method), "not run yet")
        shown |= {rate: f"{100 * scores[rate]:.1f}" for rate in shown if rate in scores}
        if best := study.best_rate(records, method):
            shown[best] = f"**{shown[best]}**"
        rows.append([f"`{method}`", *(shown.get(rate, "") for rate in columns)])
    return table(["method", *(f"{rate:g}" for rate in columns)], rows)


RECIPE_NOTE = (
    "Validation accuracy in %. Marked \\*: one seed, [95 % bootstrap over images]; else the mean "
    "over seeds [95 % t-interval], two seeds both. A gain is over the centre's encoder features, "
    "in points, the mean over the seeds that both have."
)


def recipe_table(results: Path) -> str:
    """A row a variant, and one for each place where the centre's features are read."""
    study = Study.read("recipe")
    found: dict[Row, dict[int, Figure]] = {}
    for variant, r in read(results, "recipe"):
        found.setdefault((variant, r.features, r.protocol), {})[r.seed] = r.figures["accuracy"]
    rows = [(name, change, name, "encoder") for name, change in study.variants.items()]
    rows += [(f"centre, {f}", {}, "centre", f) for f in study.of("centre", "evaluate")][1:]
    lines = []
    for shown, change, variant, features in rows:
        cells = []
        for protocol in study.evaluate["encoder"]:
            mine = found.get((variant, features, protocol), {})
            centre = found.get(("centre", "encoder", protocol), {})
            cells += [cell("accuracy", list(mine.values())), gain(mine, centre)]
        changes = ", ".join(f"`{k}={v}`" for k, v in change.items() if v is not None)
        cells[0] = cells[0] or "not run yet"
        lines.append([f"`{shown}`", changes, *cells, ", ".join(map(str, sorted(mine)))])
    heading = ["variant", "changes", "kNN", "gain", "linear", "gain", "seeds"]
    return table(heading, lines, RECIPE_NOTE)


DECIDING = ("vje", "vicreg", "simclr", "lejepa")
DECIDED = {
    ("knn-validation-v1", "accuracy"): "kNN",
    ("linear-validation-v1", "accuracy"): "linear",
    ("few-label-validation-v1", "accuracy_10"): "10 labels",
}

SPREAD_NOTE = (
    "Standard deviations in points: of the means of the methods, and of the seeds of a method "
    "(pooled). p: F-test of equal means."
)


def spread_table(results: Path) -> str:
    """Can the study decide? A row a figure, over methods that have two seeds or more."""
    accuracies: dict[tuple[str, str], dict[str, list[float]]] = {key: {} for key in DECIDED}
    for variant, r in read(results, "decision"):
        for (protocol, name), of_variant in accuracies.items():
            if variant in DECIDING and r.features == "encoder" and r.protocol == protocol:
                of_variant.setdefault(variant, []).append(100 * r.figures[name].value)
    lines = []
    for key, shown in DECIDED.items():
        groups = [values for values in accuracies[key].values() if len(values) > 1]
        if len(groups) > 1:
            methods, seeds = spreads(groups)
            p = f_oneway(*groups).pvalue
            row = f"{methods:.2f} {seeds:.2f} {methods / seeds:.1f} {p:.1g} {len(groups)}".split()
            lines.append([shown, *row])
    heading = ["accuracy", "between methods", "between seeds", "ratio", "p", "methods"]
    return table(heading, lines, SPREAD_NOTE)


def spreads(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Standard deviation of the groups' means, and the pooled one within groups."""
    within = sum(np.var(g, ddof=1) * (len(g) - 1) for g in groups)
    freedom = sum(len(g) - 1 for g in groups)
    means = [np.mean(g) for g in groups]
    return float(np.std(means, ddof=1)), float(np.sqrt(within / freedom))


def gain(figures: Mapping[int, Figure], centre: Mapping[int, Figure]) -> str:
    """Mean difference in points over the seeds of both."""
    seeds = figures.keys() & centre.keys()
    if not seeds or figures == centre:
        return ""
    return f"{sum(100 * (figures[s].value - centre[s].value) for s in seeds) / len(seeds):+.1f}"


def choice_table(results: Path) -> str:
    """Merits of the outlier scores by runs, means over seeds; a dash where one was not judged."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    studies = ("reference", "joint_posterior")
    for record in (r for study in studies for r in read(results, study, "outlier-choice")):
        found.setdefault(str(record.key[-1] or record.variant), []).append(merits(record.result))

    def mean(runs: str, score: str, kind: str) -> float:
        values = [judged[score][kind] for judged in found[runs] if score in judged]
        return sum(values) / len(values) if values else float("nan")

    scores = {score for judged in found.values() for score in judged[0]}
    merit = {s: [x for runs in found if (x := mean(runs, s, "merit")) > 0] for s in scores}
    order = sorted(scores, key=lambda s: (-sum(merit[s]) / len(merit[s]), s))
    columns = list(product(sorted(found), ("spoiled", "class_left_out", "merit")))
    shown = ([f"{mean(runs, s, kind):.3f}".replace("nan", "–") for runs, kind in columns]
             for s in order)  # fmt: skip
    heading = [f"{runs}: {kind.replace('_', ' ')}" for runs, kind in columns]
    rows = ([f"`{s}`", *cells] for s, cells in zip(order, shown, strict=True))
    return table(["score", *heading], rows)


# --------------------------------------------------------------------------------- the posterior

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


# ------------------------------------------------------------------------------------ benchmarks

CONTENDERS = {
    "vje": "VJE", "lightly_simsiam": "lightly, SimSiam", "lightly_vicreg": "lightly, VICReg",
}  # fmt: skip
PIECES = {
    "data": "batch", "views": "views", "encoder": "encoder, forward", "head": "head, forward",
    "head_backward": "head, backward", "backward": "encoder, backward", "optimizer": "optimiser",
    "whole_head": "*the whole head*",
}  # fmt: skip
OTHER = {
    "ranks_speedup": ("ranks", "training, two processes", "images / s of one process"),
    "log_likelihood_1_to_embed": ("scoring", "log-likelihood, 1 sample", "time of embedding"),
    "log_likelihood_16_to_embed": ("scoring", "log-likelihood, 16 samples", "time of embedding"),
    "help_to_import_torch": ("startup", "`vje --help`", "time of `import torch`"),
    "train_help_to_import_torch": ("startup", "`vje train --help`", "time of `import torch`"),
    "evaluate_help_to_import_torch": ("startup", "`vje evaluate --help`", "time of `import torch`"),
    "unknown_key_to_import_torch": (
        "startup",
        "`vje train training.epoch=3`, refused",
        "time of `import torch`",
    ),
    "load_to_import_torch": ("startup", "`vje_pyro.load`, imported", "time of `import torch`"),
}


def benchmark(results: Path, part: str) -> Any:
    """The result file of a benchmark."""
    path = results / "benchmarks" / f"{part}-cpu.json"
    return load_json(path, "Run the benchmark again.", f"{path} is missing: run the benchmark.")


def quartiles(figure: Mapping[str, float], digits: int = 2, factor: float = 1) -> str:
    """Median and quartiles."""
    value, low, high = (f"{factor * figure[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Ratios:
    """Ratios of a benchmark, a row for each image size and name.

    Args:
        part: Of the benchmarks.
        heading: Of the columns.
        names: As figures have them, and as they are shown: formats of the result's content.
        cells: Format of each figure's name, decimals, and what it is multiplied by.
    """

    part: str
    heading: Row
    names: Mapping[str, str]
    cells: Sequence[tuple[str, int, float]]

    def __call__(self, results: Path) -> str:
        """The table, from the folder of results."""
        content = benchmark(results, self.part)
        figures, rows = content["figures"], []
        sizes = content["settings"]["image_sizes"]
        for size, (name, shown) in product(sizes, self.names.items()):
            cells = []
            for key, digits, factor in self.cells:
                figure = figures.get(key.format(size=size, name=name))
                cells.append(quartiles(figure, digits, factor) if figure else "")
            rows.append([str(size), shown.format(**content), *cells])
        return table(self.heading, rows)


def split_table(results: Path) -> str:
    """Shares of a step."""
    content = benchmark(results, "peers")
    sizes = content["settings"]["image_sizes"]
    rows = (
        [shown, *(quartiles(content["figures"][f"{size}px_share_{p}"], 1, 100) for size in sizes)]
        for p, shown in PIECES.items()
    )
    return table(["piece, % of the step", *(f"{size} px" for size in sizes)], rows)


def growth_table(results: Path) -> str:
    """The ratio to the bound."""
    names = {"batch": "batch size", "dim": "dimension D", "pixels": "image size"}
    rows = []
    for name, figure in benchmark(results, "growth")["figures"].items():
        if name.endswith("_to_bound"):
            what, value, *_ = name.split("_")
            rows.append([names[what], value, quartiles(figure)])
    return table(["what changes", "to", "time over the bound's"], rows)


def other_table(results: Path) -> str:
    """Processes, scoring and start-up: what has been measured."""
    rows = (
        [what, unit, quartiles(figure)]
        for name, (part, what, unit) in OTHER.items()
        if (figure := benchmark(results, part)["figures"].get(name))
    )
    return table(["what", "in units of", "median [quartiles]"], rows)


def memory_table(results: Path) -> str:
    """Bytes of a step by encoder."""
    names = {
        "small_resnet-32": "small residual network, 32 px", "resnet18-32": "ResNet-18, 32 px",
        "resnet50-224": "ResNet-50, 224 px",
    }  # fmt: skip
    rows = []
    path = results / "benchmarks" / "memory.json"
    for key, found in load_json(path, "Run the benchmark again.")["encoders"].items():
        kept, checkpointed = found["kept"], found["checkpointed"]
        activations = (x["activations_per_image_and_view"] / 2**10 for x in (kept, checkpointed))
        first, second = (f"{a:,.0f}" for a in activations)
        ratios = ("step_over_bound", "step_over_1.05_bound_plus_views", "step_over_formula")
        rows.append([
            f"{names[key]}, {found['batch_size']}", first,
            *(f"{kept[k] / 2**20:,.1f}" for k in ("bound", "step")),
            *(f"{found[ratio]:.3f}" for ratio in ratios),
            f"{found['checkpointed_step_over_step']:.2f} (a: {second} KiB)",
        ])  # fmt: skip
    return table([
        "encoder, batch", "a, KiB", "bound, MiB", "step, MiB", "step / bound",
        "step / (1.05 bound + views)", "step / formula", "step with activation checkpointing",
    ], rows)  # fmt: skip


def faults_table(results: Path) -> str:
    """A row for each planted fault, a column for each check; below, the rate of false alarms."""
    path = results / "diagnostics" / "faults.json"
    if not path.exists():
        return NONE
    record = load_json(path, "Plant the faults again: python -m studies.faults.")
    checks, total = record["false_alarms"], record["config"]["repetitions"]
    rows = [
        [fault, *("found" if flagged[check] else "" for check in checks)]
        for fault, flagged in record["faults"].items()
    ]
    rows.append(["none, other data: flagged", *(f"{n} of {total}" for n in checks.values())])
    return table(["fault", *(f"`{check}`" for check in checks)], rows)


def checks_list(_: Path) -> str:
    """The checks of a diagnosis, in their order."""
    checks = {name: load_check(name) for name in CHECKS}
    return "\n".join(
        f"- `{name}`{' (minutes)' * check.slow}: {check.question} {check.about}"
        for name, check in checks.items()
    )


def campaigns_table(results: Path) -> str:
    """A row for each campaign, with all that it counted."""
    rows = []
    for path in sorted((results / "campaigns").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        name, seed, cases, commit = (found.pop(k) for k in ("name", "seed", "cases", "commit"))
        counts = ", ".join(f"{key} {value:,}" for key, value in found.items())
        rows.append([name, f"{cases:,}", counts, str(seed), (commit or "unknown")[:7]])
    return table(["campaign", "cases", "counted", "seed", "commit"], rows)


# ------------------------------------------------------------------------------------- the pages

FEW = ("mahalanobis", "niw", "vim", "posterior-gaussian", "niw-latent", "dose", "elbo")
"""Scores that are shown first: on features, with labels, of the model, the naive one."""

BOTH = {"plain": "vje", "recommended": "vje-recommended"}
OBJECTIVES = {name: name for name in ("conditional", "joint", "predictive")}
STUDY = {"study": "{variant}", "method": "{method}"}
SCORES = {"score": "{score}", "method": "`{variant}`"}
AUROC = r"auroc_(?P<score>[^_]+)"
UNCERTAINTY = r"(?!views-)(?P<what>calibration_angle|.+(?=_[^_]+$))(_(?P<of>[^_]+))?"
SPREAD = r"auroc_(?P<score>[^_]+)_(?P<classifier>[^_]+)"
VIEWS = r"views-(?P<views>\d+)_(?P<what>.*)"
HEADS = r"(?P<metric>\w+)_(?P<head>\w+)-(?P<reads>\w+)_(?P<labels>\d+)"

TABLES: dict[tuple[str, str], Callable[[Path], str]] = {
    ("docs/results.md", "results"): accuracies("reference"),
    ("docs/appendix/ablation.md", "results"): accuracies("ablation", ACCURACY_NOTE + OTHER_NOTE),
    ("docs/appendix/methods.md", "search"): search_table,
    ("docs/appendix/methods.md", "methods"): methods_table,
    ("docs/appendix/decision.md", "spread"): spread_table,
    ("docs/appendix/decision.md", "results"): Pivot(
        ("decision",),
        (),
        {"variant": "`{variant}`", "features": "{features}"},
        columns={f"{p} {name}": shown for (p, name), shown in DECIDED.items()},
        note=ACCURACY_NOTE.replace("Test", "Validation").replace("test", "validation"),
    ),
    ("docs/explanation/methods.md", "whitened"): accuracies("whitening"),
    ("docs/appendix/recipe.md", "outcomes"): recipe_table,
    ("docs/appendix/detection.md", "choice"): choice_table,
    ("docs/appendix/detection.md", "ood"): Pivot(
        ("reference",), ("ood",), STUDY | {"score": "{score}"}, AUROC, "{out}"
    ),
    ("docs/appendix/detection.md", "one-class"): Pivot(
        ("reference",), ("one-class",), STUDY | {"score": "{score}"}, AUROC, "{out}"
    ),
    ("docs/appendix/detection.md", "ood-methods-few"): Pivot(
        ("methods",), ("ood",), SCORES, AUROC, "{out}", scores=FEW
    ),
    ("docs/appendix/detection.md", "ood-methods"): Pivot(
        ("methods",), ("ood",), SCORES, AUROC, "{out}"
    ),
    ("docs/appendix/uncertainty.md", "uncertainty"): Pivot(
        ("reference", "joint_posterior"),
        ("uncertainty",),
        STUDY | {"figure": "{what}"},
        UNCERTAINTY,
        "{of}",
    ),
    ("docs/appendix/uncertainty.md", "uncertainty-methods"): Pivot(
        ("methods",),
        ("uncertainty",),
        {"figure": "{what}", "method": "`{variant}`"},
        UNCERTAINTY,
        "{of}",
        ends=True,
    ),
    ("docs/appendix/uncertainty.md", "view-spread"): Pivot(
        ("joint_posterior",),
        ("view-spread",),
        STUDY | {"errors of": "{classifier}"},
        SPREAD,
        "{score}",
    ),
    ("docs/explanation/uncertainty.md", "uncertainty-views"): Pivot(
        ("reference", "methods", "joint_posterior"),
        ("uncertainty",),
        {"study": "{variant}", "views": "{views}"},
        VIEWS,
        "{what}",
    ),
    ("docs/appendix/aggregate.md", "posterior"): partial(posterior_table, "methods", BOTH),
    ("docs/appendix/objectives.md", "objectives"): partial(
        posterior_table, "objectives", OBJECTIVES
    ),
    ("docs/explanation/joint_posterior.md", "joint-posterior"): Pivot(
        ("joint_posterior",),
        ("many-views",),
        {"study": "{variant}", "views": "{views}"},
        VIEWS,
        "{what}",
    ),
    ("docs/explanation/joint_posterior.md", "noise"): Pivot(
        ("joint_posterior",),
        ("view-noise",),
        {"study": "{variant}", "views of": "{of}"},
        r"(?P<of>images|model)_(?P<what>.*)",
        "{what}",
    ),
    ("docs/explanation/joint_posterior.md", "accuracy"): accuracies("joint_posterior"),
    ("docs/how-to/heads.md", "heads"): Pivot(
        ("reference", "methods", "joint_posterior"),
        ("bayes-heads",),
        {"study": "{variant}", "labels a class": "{labels}", "head": "{head}", "reads": "{reads}"},
        HEADS,
        "{metric}",
    ),
    ("docs/explanation/diagnostics.md", "checks"): checks_list,
    ("docs/explanation/diagnostics.md", "faults"): faults_table,
    ("docs/explanation/performance.md", "peers"): Ratios(
        "peers",
        ("pixels", "what", "time over the bound's", "VJE's speed over its"),
        CONTENDERS,
        [("{size}px_{name}_to_bound", 2, 1), ("{size}px_vje_speed_over_{name}", 2, 1)],
    ),
    ("docs/appendix/performance.md", "split"): split_table,
    ("docs/appendix/performance.md", "aggregate"): Ratios(
        "aggregate",
        ("pixels", "`aggregate=`", "step over the step without", "the term alone, % of it"),
        {x: f"`{x}`" for x in ("sigreg", "sliced_wasserstein", "variance_covariance")},
        [("{size}px_{name}_to_none", 3, 1), ("{size}px_{name}_alone_to_none", 2, 100)],
    ),
    ("docs/appendix/performance.md", "precision"): Ratios(
        "precision",
        ("pixels", "instructions", "speed in bfloat16 over float32's"),
        {"bfloat16": "{device[bfloat16]}"},
        [("{size}px_{name}_speed", 2, 1)],
    ),
    ("docs/appendix/performance.md", "growth"): growth_table,
    ("docs/appendix/performance.md", "other"): other_table,
    ("docs/how-to/scaling.md", "memory"): memory_table,
    ("docs/explanation/reliability.md", "campaigns"): campaigns_table,
}
"""Page and name of each table, and what makes it from the folder of results."""


def rewrite(root: Path = ROOT, check: bool = False) -> list[str]:
    """Rewrite all tables; or only look, with ``check``.

    Returns:
        Pages and names of those that were not up to date.

    Raises:
        VJEError: A page has no place for its table, or results cannot be averaged.
    """
    stale = []
    for (file, name), make in TABLES.items():
        page = root / file
        before = page.read_text(encoding="utf-8")
        after = update(before, name, make(root / "docs" / "results"))
        if after != before:
            stale.append(f"{file}: {name}")
            if not check:
                write_atomic(page, after)
    return stale


def update(page: str, name: str, content: str) -> str:
    """The page with the content between the table's markers.

    Raises:
        VJEError: The markers are not there once each.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise VJEError(f"the page must hold one line {begin} and after it one line {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", page)
