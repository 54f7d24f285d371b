"""What each section of the report shows, as the template reads it."""

import base64
import itertools
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vje_pyro.errors import DataError
from vje_pyro.evaluation.result import Result
from vje_pyro.report import (
    charts,
    curves,
    diagnostics,
    embeddings,
    plots,
    run_summary,
    several_views,
)
from vje_pyro.report.collect import (
    Log,
    Results,
    measure,
    read_log,
    read_results,
    split_sizes,
)
from vje_pyro.report.page import write_page
from vje_pyro.report.tables import Cell, Table, cell, title, words
from vje_pyro.run import Representation
from vje_pyro.training.run_dir import RunDir

QUERY_SPLITS = ("test", "val", "train", "pretrain")
BANK_SPLITS = ("train", "pretrain", "test")
QUERY_LIMIT, BANK_LIMIT = 2_000, 5_000
MAX_TILES = 6
HEADLINES = {
    "knn-v1": "nearest neighbours",
    "linear-v1": "linear layer",
    "linear-sgd-v1": "linear layer, SGD",
}
"""What the accuracy of a protocol is called where it stands first, beside those of few labels."""


def write_report(run: Representation, out: str | Path | None = None) -> Path:
    """Write the report of a run as one HTML file.

    Args:
        run: The run, as ``vje_pyro.load`` returns it.
        out: Where to write; ``report.html`` of the run directory by default. An older file is
            replaced only when the new one is complete.

    Returns:
        The path of the file.
    """
    page = RunDir(run.path).report if out is None else Path(out)
    return write_page("report.html", page, **context(run))


def context(run: Representation) -> dict[str, Any]:
    """Everything that the page shows, by section."""
    directory = RunDir(run.path)
    steps = read_log(directory.steps)
    epochs = read_log(directory.epochs)
    sizes = split_sizes(run.source, ("pretrain", "train", "val", "test"))
    results = read_results(directory.results)
    last = (steps.last("step"), steps.last("time")) if steps else (None, None)
    rows = run_summary.training_facts(run, sizes, *last)
    info = run_summary.as_json({**run.info, "config": run.config})
    rank = epochs.last("rankme") if epochs else None
    return {
        "title": f"{type(run.method).__name__} on {run.source.name}",
        "run_name": Path(run.path).resolve().name,
        "summary": run_summary.summary(rows, sizes, run.source.name),
        "facts": rows,
        "components": run_summary.distinct_components(run.config),
        "tiles": _tiles(results, rank, run.method.num_features),
        "alarms": _alarms(epochs),
        "results": _results(results),
        "curves": _curves(run, steps, epochs),
        **_pictures(run),
        "rankme": None if rank is None else f"{rank:.1f}",
        "views": several_views.section(results),
        "diagnostics": diagnostics.section(Path(run.path)),
        "command": run_summary.command(run.info),
        "run_path": shlex.quote(str(run.path)),
        "info": info,
        "info_uri": "data:application/json;base64," + base64.b64encode(info.encode()).decode(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _tiles(results: Results, rank: float | None, num_features: int) -> list[dict[str, str]]:
    """Headline figures: accuracies of the method's own features, then RankMe."""
    tiles = [
        {"name": f"Accuracy, {named}", "value": shown.value, "note": shown.interval}
        for _, result in results.read
        if result.features != "pixels"
        for name, figure in result.figures.items()
        if (named := _headline(result, name)) and (shown := cell(name, figure))
    ]  # fmt: skip
    if rank is not None:
        value, note = f"{rank:.1f}", f"of {num_features} features"
        tile = {"name": "Effective rank (RankMe)", "value": value, "note": note}
        tiles = [*tiles[: MAX_TILES - 1], tile]
    return tiles[:MAX_TILES]


def _alarms(epochs: Log | None) -> dict[str, Any]:
    """Alarms by kind (their first word), with the epochs that raised them."""
    if epochs is None:
        return {"missing": "there is no logs/epochs.csv, so collapse was not watched", "raised": []}
    count = len(epochs.alarms)
    numbers = epochs.columns.get("epoch", np.arange(1.0, count + 1))
    raised: dict[str, dict[str, Any]] = {}
    for number, text in zip(numbers, epochs.alarms, strict=True):
        for alarm in filter(None, text.split("; ")):
            kind = raised.setdefault(alarm.split()[0], {"at": []})
            kind["text"] = alarm  # the last of its kind: its figure changes from epoch to epoch
            kind["at"].append(f"{number:g}")
    return {
        "missing": "",
        "raised": [{"text": k["text"], "epochs": _listing(k["at"])} for k in raised.values()],
        "count": sum(bool(text) for text in epochs.alarms),
        "of": count,
        "now": bool(epochs.alarms[-1]),
    }


def _results(results: Results) -> dict[str, Any]:
    by_protocol = itertools.groupby(results.read, key=lambda named: named[1].protocol)
    groups = [(protocol, [result for _, result in named]) for protocol, named in by_protocol]
    return {
        "plot": _accuracies([result for _, result in results.read]),
        "tables": [_table(protocol, found) for protocol, found in groups],
        "refused": results.refused,
        "settings": {file: run_summary.as_json(result.settings) for file, result in results.read},
    }


def _accuracies(results: Iterable[Result]) -> Any:
    """The accuracies of :data:`HEADLINES` on the method's features; None without any."""
    rows: charts.Values = [
        {"name": headline, "value": 100 * figure.value, "low": 100 * figure.low,
         "high": 100 * figure.high, "shown": shown.text}
        for result in results
        if result.features == "encoder"
        for name, figure in result.figures.items()
        if (headline := _headline(result, name)) and (shown := cell(name, figure))
    ]  # fmt: skip
    if not rows:
        return None
    alt = "; ".join(f"{row['name']} {row['shown']}" for row in rows)
    return plots.dots(alt, rows, [row["name"] for row in rows], "accuracy [%]", distinct=False)


def _headline(result: Result, name: str) -> str:
    """What an accuracy is called where it stands first; "" for any other figure."""
    if result.protocol == "few-label-v1":
        return words(name).removeprefix("accuracy, ")
    return HEADLINES.get(result.protocol, "") if name == "accuracy" else ""


def _table(protocol: str, results: list[Result]) -> Table:
    """All figures of one protocol; what tells several results of it apart is a column."""
    whose = [_whose(result, results) for result in results]
    rows = tuple(
        ((words(name), *([who] if any(whose) else [])),
         (cell(name, figure), Cell(f"{figure.n:,}", number=figure.n)))
        for result, who in zip(results, whose, strict=True)
        for name, figure in result.figures.items()
    )  # fmt: skip
    kinds = dict.fromkeys(
        figure.interval.replace("95%", "95 %") for r in results for figure in r.figures.values()
    )
    first = results[0]
    small = f"Protocol {protocol}; features {first.method}, {first.features}; data "
    small += f"{first.dataset.get('name', '')}. Intervals: {'; '.join(kinds)}.".replace("%", " %")
    headings = ("figure", *(["of"] if any(whose) else []), "value", "n")
    return Table(title(protocol), headings, rows, small)


def _whose(result: Result, among: list[Result]) -> str:
    parts = [(r.dataset.get("out"), r.method, r.features) for r in among]
    mine = (result.dataset.get("out"), result.method, result.features)
    differ = [len({part[index] for part in parts}) > 1 for index in range(3)]
    return ", ".join(str(part) for part, other in zip(mine, differ, strict=True) if other and part)


def _curves(run: Representation, steps: Log | None, epochs: Log | None) -> dict[str, Any]:
    missing = [
        f"logs/{name}.csv is not there or has no rows"
        for name, log in (("steps", steps), ("epochs", epochs))
        if log is None
    ]
    classes = run.source.num_classes or 0
    first, rest = curves.panels(steps, epochs, run.method.num_features, classes)
    return {"first": first, "rest": rest, "missing": "; ".join(missing)}


def _pictures(run: Representation) -> dict[str, Any]:
    """The sections that need images; each says why where it cannot be drawn."""
    names = ("map", "neighbours", "certainty", "spectrum", "scale")
    try:
        sample = measure(run, QUERY_SPLITS, QUERY_LIMIT)
        bank = measure(run, BANK_SPLITS, BANK_LIMIT)
    except DataError as error:
        return {name: {"missing": f"the images could not be read: {error}"} for name in names}
    found = {
        "map": embeddings.show_map(sample),
        "neighbours": embeddings.show_neighbours(sample, bank),
        "certainty": embeddings.show_certainty(sample),
        "spectrum": embeddings.show_spectrum(sample),
        "scale": embeddings.show_scale(sample, embeddings.has_standard_prior(run.method)),
    }
    told = {"n": f"{len(sample):,}", "split": sample.name, "missing": ""}
    return {name: told | section for name, section in found.items()}


def _listing(items: list[str], limit: int = 6) -> str:
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[: limit - 1])}, … {items[-1]}: {len(items)} in all"
