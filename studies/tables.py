"""The tables of README and docs, each between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

A table is an entry of :data:`TABLES`: its page, its name, and what makes its rows from stored
results. A figure of three seeds or more is their mean with a 95 % interval in the figure's range
(:mod:`vje_pyro.statistics`); two seeds are shown both; one keeps the interval of its result and is
marked with an asterisk. Seeds that differ in data or settings are refused.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from itertools import product
from pathlib import Path
from typing import Any

from studies import ROOT
from studies.outlier_choice import merits
from studies.store import Record, Store
from studies.study import Study
from vje_pyro.atomic import write_atomic
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable
from vje_pyro.reading import load_json
from vje_pyro.statistics import POSITIVE, REAL, SHARE, Scale, over_seeds, parts, scale_of, show

Row = tuple[str, ...]
Cells = Iterable[tuple[Row, str, Figure, Scale]]
"""Names of a row, a column, one seed's figure and where it may lie."""

NONE = "No results yet."


def table(heading: Iterable[str], rows: Iterable[Iterable[str]], note: str = "") -> str:
    """Markdown."""
    names = list(heading)
    lines = [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]
    return "\n".join([*lines, *(["", note] if note else [])])


def cell(
    figures: Sequence[Figure],
    scale: Scale = SHARE,
    form: str = ".1f",
    factor: float = 100,
    blank: str = "",
    mark_all: bool = True,
) -> str:
    """A figure of all seeds as it is shown.

    Args:
        figures: One a seed.
        scale: Of the figure.
        form: Of a number.
        factor: That numbers are multiplied by.
        blank: Where nothing was measured.
        mark_all: Mark a single seed that has no interval, too.
    """
    if not figures:
        return blank
    figure = over_seeds(figures, scale)
    mark = "\\*" if len(figures) == 1 and (parts(figure)[1] or mark_all) else ""
    return show(figure, form, factor) + mark


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


def pivot(names: list[str], cells: Cells, rows: Iterable[Row] = ()) -> str:
    """Rows and columns in the order they are found, after the rows that are named."""
    found: dict[Row, dict[str, list[Figure]]] = {row: {} for row in rows}
    scales = {}
    for row, column, figure, scale in cells:
        found.setdefault(row, {}).setdefault(column, []).append(figure)
        scales[row, column] = scale
    columns = list(dict.fromkeys(column for figures in found.values() for column in figures))
    shown = partial(cell, form=".3f", factor=1, blank="–", mark_all=False)
    lines = (
        [*row, *(shown(figures.get(c, []), scales.get((row, c), REAL)) for c in columns),
         str(max(map(len, figures.values()), default=0))]
        for row, figures in found.items()
    )  # fmt: skip
    return table([*names, *columns, "seeds"], lines) if found else NONE


def together(cells: Cells) -> list[tuple[Row, str, Figure, Scale]]:
    """Rows with the same first name below each other, else in the order they are found."""
    found = list(cells)
    first = list(dict.fromkeys(row[0] for row, *_ in found))
    return sorted(found, key=lambda cell: first.index(cell[0][0]))


# ---------------------------------------------------------------------------------- accuracies

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
no result fills is left out."""

ACCURACY_NOTE = (
    "Test accuracy in %. Of three seeds or more: mean [95 % t-interval on the logit scale]; of "
    "two: both; "
    "marked \\*: one seed, [95 % bootstrap over test images] "
    "(1, 5, 10 labels per class: mean over 10 draws [95 % t-interval over draws])."
)
OTHER_NOTE = (
    " RankMe is that of training images at the end of training; one seed has no interval there. "
    "KL of the posterior from the prior, and how much the log-likelihood of the "
    "target would lose with the z, or the scale, of another image, are in nats per datum, of test "
    "images; one seed: [95 % bootstrap over images]."
)

Found = Mapping[tuple[str, str], Sequence[Figure]]


def by_figure(results: Iterable[Result]) -> dict[tuple[str, str], list[Figure]]:
    """Figures by protocol and name, in the order of the results."""
    found: dict[tuple[str, str], list[Figure]] = {}
    for result in results:
        for name, figure in result.figures.items():
            found.setdefault((result.protocol, name), []).append(figure)
    return found


def accuracy_table(study: str, results: Path) -> str:
    """A row a variant, method and features."""
    rows: dict[Row, list[Result]] = {}
    for variant, result in read(results, study):
        if any(result.protocol == protocol for _, protocol, *_ in COLUMNS):
            rows.setdefault((variant, result.method, result.features), []).append(result)
    figures = {row: by_figure(results) for row, results in rows.items()}
    columns = [c for c in COLUMNS if any(c[1:3] in found for found in figures.values())]
    lines = []
    for row, found in sorted(figures.items()):
        counts = {len({r.seed for r in rows[row] if r.protocol == p}) for _, p, *_ in columns} - {0}
        cells = (cell(found.get((p, n), []), scale_of(n), factor=f) for _, p, n, f in columns)
        lines.append([*row, *cells, "–".join(map(str, sorted(counts)))])
    note = ACCURACY_NOTE + OTHER_NOTE * any(c[1] == "latent-v1" for c in columns)
    heading = ["study", "method", "features", *(c[0] for c in columns), "seeds"]
    return table(heading, lines, note) if lines else NONE


METHODS_NOTE = (
    "Test accuracy in %: the mean over seeds [95 % t-interval], two seeds both; marked \\*: one "
    "seed, [95 % bootstrap over test images, or t-interval over draws of labels]. RankMe is that "
    "of training images, the memory the peak of the whole process, both at the end of training. "
    "Step: time of a step over that of the encoder alone, in turns in one run, median [quartiles]."
)


def methods_table(results: Path) -> str:
    """A row a method, best kNN first; what has not been run comes last."""
    shown = ("kNN", "linear", "1 label", "5 labels", "10 labels", "RankMe")
    columns = [column for column in COLUMNS if column[0] in shown]
    columns += [("memory, MiB", "training-v1", "peak_memory_mib", 1)]
    study, records = Study.read("methods"), read(results, "methods")
    path = results / "benchmarks" / "methods-cpu.json"
    cost = benchmark(results, "methods")["figures"] if path.exists() else {}
    rows = []
    for method in study.variants:
        own = [r.result for r in records if r.variant == method]
        found = by_figure(own)
        cells = [cell(found.get((p, n), []), scale_of(n), factor=f) for _, p, n, f in columns]
        seeds = ", ".join(str(r.seed) for r in own if r.protocol == "knn-v1")
        rate = study.best_rate(records, method)
        rate_shown = f"{rate:g}" if seeds and rate else ""
        ratio = cost.get(f"16px_{method}_to_bound")
        cells[0] = cells[0] or "not run yet"
        rows.append([f"`{method}`", rate_shown, *cells, quartiles(ratio) if ratio else "", seeds])
    rows.sort(key=lambda row: (row[2][:1].isdigit(), row[2]), reverse=True)
    return table(["method", "rate", *(c[0] for c in columns), "step", "seeds"], rows, METHODS_NOTE)


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
            cells += [cell(list(mine.values())), gain(mine, centre)]
        changes = ", ".join(f"`{k}={v}`" for k, v in change.items() if v is not None)
        cells[0] = cells[0] or "not run yet"
        lines.append([f"`{shown}`", changes, *cells, ", ".join(map(str, sorted(mine)))])
    heading = ["variant", "changes", "kNN", "gain", "linear", "gain", "seeds"]
    return table(heading, lines, RECIPE_NOTE)


def gain(figures: Mapping[int, Figure], centre: Mapping[int, Figure]) -> str:
    """Mean difference in points over the seeds of both."""
    seeds = figures.keys() & centre.keys()
    if not seeds or figures == centre:
        return ""
    return f"{sum(100 * (figures[s].value - centre[s].value) for s in seeds) / len(seeds):+.1f}"


# ------------------------------------------------------------------------ detection, uncertainty

FEW = ("mahalanobis", "niw", "vim", "posterior-gaussian", "niw-latent", "dose", "elbo")
"""Scores that are shown first: on features, with labels, of the model, the naive one."""


def aurocs(result: Result) -> Iterator[tuple[str, Figure]]:
    """Scores with their AUROC; those of a class end in its number and are left out."""
    for name, figure in result.figures.items():
        if name.startswith("auroc_") and name.count("_") == 1:
            yield name.removeprefix("auroc_"), figure


def detection_table(protocol: str, results: Path) -> str:
    """AUROC: a row for each study, method and score, a column for each set."""
    cells = (
        ((variant, r.method, score), r.dataset.get("out", "mean AUROC"), figure, SHARE)
        for variant, r in read(results, "reference", protocol)
        for score, figure in aurocs(r)
    )
    return pivot(["study", "method", "score"], cells)


def methods_detection_table(scores: Sequence[str], results: Path) -> str:
    """A row for each score, or each of those named, and method."""
    cells = (
        ((score, f"`{variant}`"), r.dataset["out"], figure, SHARE)
        for variant, r in read(results, "methods", "ood")
        for score, figure in aurocs(r)
        if not scores or score in scores
    )
    return pivot(["score", "method"], together(cells))


def uncertainties(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """What is measured, of which uncertainty, and the figure."""
    for name, figure in result.figures.items():
        if name.startswith("views-"):
            continue
        what, uncertainty = name.rsplit("_", 1)
        yield (name, "posterior", figure) if uncertainty == "angle" else (what, uncertainty, figure)


def uncertainty_table(results: Path) -> str:
    """A row for each study, method and figure, a column for each uncertainty."""
    cells = (
        ((variant, r.method, what), uncertainty, figure, scale_of(what))
        for study in ("reference", "joint_posterior")
        for variant, r in read(results, study, "uncertainty")
        for what, uncertainty, figure in uncertainties(r)
    )
    return pivot(["study", "method", "figure"], cells)


def views_table(results: Path) -> str:
    """What a posterior gains from more views: a row for each study and number of views."""
    cells = (
        ((variant, match[1]), match[2].replace("_", " "), figure, scale_of(name))
        for study in ("reference", "methods", "joint_posterior")
        for variant, r in read(results, study, "uncertainty")
        for name, figure in r.figures.items()
        if (match := re.fullmatch(r"views-(\d+)_(.*)", name))
    )
    return pivot(["study", "views"], cells)


PERCENT = re.compile("angle|radius|alarms")
"""Figures of the joint posterior that are shares."""


def joint_table(results: Path) -> str:
    """The checks of the joint posterior: a row for each study and number of views."""
    found: dict[Row, dict[str, list[Figure]]] = {}
    for variant, r in read(results, "joint_posterior", "many-views"):
        for name, figure in r.figures.items():
            views, what = name.removeprefix("views-").split("_")
            found.setdefault((variant, views), {}).setdefault(what, []).append(figure)
    if not found:
        return NONE
    columns = list(next(iter(found.values())))
    rows = [
        (*row, *(_joint_cell(what, figures[what]) for what in columns))
        for row, figures in sorted(found.items(), key=lambda item: (item[0][0], int(item[0][1])))
    ]
    return table(["study", "views", *(what.replace("-", " ") for what in columns)], rows)


def _joint_cell(what: str, figures: Sequence[Figure]) -> str:
    shares = PERCENT.search(what) is not None
    form, factor = (".0f", 100) if shares else (".2f", 1)
    return cell(figures, scale_of(what), form, factor, mark_all=False)


ENDS = {"error": "error rate", "best_aurc": "best order"}
"""Details of the uncertainty protocol and their columns."""


def ends(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Both ends of the scale of each AURC, which have no interval of their own."""
    for name, value in result.details.items():
        end, _, classifier = name.rpartition("_")
        if end in ENDS:
            yield f"aurc_{classifier}", ENDS[end], Figure.point(value)


def methods_uncertainty_table(results: Path) -> str:
    """A row for each figure and method, a column for each uncertainty.

    The error rates of the classifiers and the AURC of the best order are the ends of the scale of
    an AURC, which differ from method to method. Every method has a row in every figure.
    """
    found = together(
        ((what, f"`{variant}`"), column, figure, scale_of(what))
        for variant, r in read(results, "methods", "uncertainty")
        for what, column, figure in (*ends(r), *uncertainties(r))
    )
    figures, methods = (list(dict.fromkeys(row[i] for row, *_ in found)) for i in (0, 1))
    return pivot(["figure", "method"], found, product(figures, methods))


def choice_table(results: Path) -> str:
    """Merits of the outlier scores, by run; a dash where a run was judged before there was one."""
    tables = {
        record.key[-1] or f"{record.variant}-seed{record.result.seed}": merits(record.result)
        for record in read(results, "reference", "outlier-choice")
    }
    tables = dict(sorted(tables.items()))
    kinds = ("spoiled", "class_left_out", "merit")

    def mean_merit(score: str) -> float:
        found = [m[score]["merit"] for m in tables.values() if score in m]
        return sum(found) / len(found)

    def shown(score: str) -> Iterator[str]:
        for found, kind in product(tables.values(), kinds):
            yield f"{found[score][kind]:.3f}" if score in found else "–"

    scores = {score for found in tables.values() for score in found}
    order = sorted(scores, key=lambda score: (-mean_merit(score), score))
    heading = [f"{run}: {kind.replace('_', ' ')}" for run, kind in product(tables, kinds)]
    return table(["score", *heading], ([f"`{score}`", *shown(score)] for score in order))


HEADS = {"accuracy": "accuracy", "nll": "NLL, nats", "ece": "ECE"}
"""Figures of the Bayesian heads and their columns."""


def heads_table(results: Path) -> str:
    """A row for each study, labels a class, and head with what it reads."""
    cells = []
    for study in ("reference", "methods", "joint_posterior"):
        for variant, r in read(results, study, "bayes-heads"):
            for name, figure in r.figures.items():
                metric, head, labels = name.split("_")
                kind, _, reads = head.partition("-")
                row = variant, labels, kind, reads
                cells.append((row, HEADS[metric], figure, scale_of(metric)))
    cells.sort(key=lambda cell: (cell[0][0], int(cell[0][1])))
    return pivot(["study", "labels a class", "head", "reads"], cells)


# --------------------------------------------------------------------------------- the posterior

LEVELS = {f"{100 * float(level):.0f} %": level for level in ("0.5", "0.8", "0.95")}
POSTERIOR: dict[str, Row] = {
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
    figures = [_checked(checks, where) for checks in seeds]
    if where[-2].startswith("coverage"):
        return cell(figures, SHARE, mark_all=False)
    counted = POSITIVE if where[-1] == "active_units" else scale_of(where[-1])
    return cell(figures, counted, ".4g", 1, mark_all=False)


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
AGGREGATES = ("sigreg", "sliced_wasserstein", "variance_covariance")
OTHER = {
    "ranks_speedup": ("ranks", "training, two processes", "images / s of one process"),
    "log_likelihood_1_to_embed": ("scoring", "log-likelihood, 1 sample", "time of embedding"),
    "log_likelihood_16_to_embed": ("scoring", "log-likelihood, 16 samples", "time of embedding"),
    "help_to_import_torch": ("startup", "`vje --help`", "time of `import torch`"),
    "train_help_to_import_torch": ("startup", "`vje train --help`", "time of `import torch`"),
}


def benchmark(results: Path, part: str) -> Any:
    """The result file of a benchmark."""
    path = results / "benchmarks" / f"{part}-cpu.json"
    return load_json(path, "Run the benchmark again.", f"{path} is missing: run the benchmark.")


def quartiles(figure: Mapping[str, float], digits: int = 2, factor: float = 1) -> str:
    """Median and quartiles."""
    value, low, high = (f"{factor * figure[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def peers_table(results: Path) -> str:
    """Ratios to the bound and to VJE: absolute times are those of one machine."""
    content = benchmark(results, "peers")
    figures, rows = content["figures"], []
    for size, (name, shown) in product(content["settings"]["image_sizes"], CONTENDERS.items()):
        speed = figures.get(f"{size}px_vje_speed_over_{name}")
        bound = quartiles(figures[f"{size}px_{name}_to_bound"])
        rows.append([str(size), shown, bound, quartiles(speed) if speed else ""])
    return table(["pixels", "what", "time over the bound's", "VJE's speed over its"], rows)


def split_table(results: Path) -> str:
    """Shares of a step."""
    content = benchmark(results, "peers")
    sizes = content["settings"]["image_sizes"]
    rows = (
        [shown, *(quartiles(content["figures"][f"{size}px_share_{p}"], 1, 100) for size in sizes)]
        for p, shown in PIECES.items()
    )
    return table(["piece, % of the step", *(f"{size} px" for size in sizes)], rows)


def aggregate_table(results: Path) -> str:
    """The step with an aggregate term over the step without."""
    content = benchmark(results, "aggregate")
    figures = content["figures"]
    rows = (
        [str(size), f"`{name}`", quartiles(figures[f"{size}px_{name}_to_none"], 3),
         quartiles(figures[f"{size}px_{name}_alone_to_none"], 2, 100)]
        for size, name in product(content["settings"]["image_sizes"], AGGREGATES)
    )  # fmt: skip
    heading = ["pixels", "`aggregate=`", "step over the step without", "the term alone, % of it"]
    return table(heading, rows)


def precision_table(results: Path) -> str:
    """The speed of bfloat16 over float32's."""
    content = benchmark(results, "precision")
    figures, instructions = content["figures"], content["device"]["bfloat16"]
    rows = (
        [str(size), instructions, quartiles(figures[f"{size}px_bfloat16_speed"])]
        for size in content["settings"]["image_sizes"]
    )
    return table(["pixels", "instructions", "speed in bfloat16 over float32's"], rows)


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
    """Processes, scoring and start-up."""
    rows = (
        [what, unit, quartiles(benchmark(results, part)["figures"][name])]
        for name, (part, what, unit) in OTHER.items()
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

BOTH = {"plain": "vje", "recommended": "vje-recommended"}
OBJECTIVES = {name: name for name in ("conditional", "joint", "predictive")}

TABLES: dict[tuple[str, str], Callable[[Path], str]] = {
    ("docs/results.md", "results"): partial(accuracy_table, "reference"),
    ("docs/appendix/ablation.md", "results"): partial(accuracy_table, "ablation"),
    ("docs/appendix/methods.md", "search"): search_table,
    ("docs/appendix/methods.md", "methods"): methods_table,
    ("docs/appendix/recipe.md", "outcomes"): recipe_table,
    ("docs/appendix/detection.md", "choice"): choice_table,
    ("docs/appendix/detection.md", "ood"): partial(detection_table, "ood"),
    ("docs/appendix/detection.md", "one-class"): partial(detection_table, "one-class"),
    ("docs/appendix/detection.md", "ood-methods-few"): partial(methods_detection_table, FEW),
    ("docs/appendix/detection.md", "ood-methods"): partial(methods_detection_table, ()),
    ("docs/appendix/uncertainty.md", "uncertainty"): uncertainty_table,
    ("docs/appendix/uncertainty.md", "uncertainty-methods"): methods_uncertainty_table,
    ("docs/explanation/uncertainty.md", "uncertainty-views"): views_table,
    ("docs/appendix/aggregate.md", "posterior"): partial(posterior_table, "methods", BOTH),
    ("docs/appendix/objectives.md", "objectives"): partial(
        posterior_table, "objectives", OBJECTIVES
    ),
    ("docs/explanation/joint_posterior.md", "joint-posterior"): joint_table,
    ("docs/explanation/joint_posterior.md", "accuracy"): partial(accuracy_table, "joint_posterior"),
    ("docs/how-to/heads.md", "heads"): heads_table,
    ("docs/explanation/diagnostics.md", "faults"): faults_table,
    ("docs/explanation/performance.md", "peers"): peers_table,
    ("docs/appendix/performance.md", "split"): split_table,
    ("docs/appendix/performance.md", "aggregate"): aggregate_table,
    ("docs/appendix/performance.md", "precision"): precision_table,
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
