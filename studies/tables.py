"""The tables of README and docs, each between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

A table is an entry of :data:`TABLES`: its page, its name, and what makes its rows from stored
results. A figure of three seeds or more is their mean with a 95 % interval in the figure's range
(:mod:`vje_pyro.statistics`); two seeds are shown both; one keeps the interval of its result and is
marked with an asterisk. Accuracies, coverage and other shares of images are in %; areas under
curves and correlations are numbers. Seeds that differ in data or settings are refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path

from studies import ROOT
from studies.benchmark_tables import (
    CONTENDERS,
    Ratios,
    benchmark,
    growth_table,
    memory_table,
    other_table,
    quartiles,
    split_table,
)
from studies.outlier_choice import merits
from studies.pivot import NONE, Pivot, Row, cell, read, table
from studies.posterior_table import posterior_table
from studies.spread import DECIDED, spread_table
from studies.store import Store
from studies.study import Study
from vje_pyro.atomic import write_atomic
from vje_pyro.diagnostics import load_check
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure
from vje_pyro.names import CHECKS
from vje_pyro.reading import load_json

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
