"""What each section of the report shows, as the template reads it."""

import base64
import itertools
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.distributions import Normal

from vje_pyro.errors import DataError
from vje_pyro.evaluation.result import Result
from vje_pyro.inference import EmbeddingModel
from vje_pyro.report import (
    charts,
    curves,
    diagnostics,
    gallery,
    plots,
    projection,
    run_summary,
    several_views,
)
from vje_pyro.report.collect import (
    Floats,
    Log,
    Results,
    Sample,
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
NEIGHBOURS = 8
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
        "map": _map(sample),
        "neighbours": _neighbours(sample, bank),
        "certainty": _certainty(sample),
        "spectrum": _spectrum(sample),
        "scale": _scale(sample, has_standard_prior(run.method)),
    }
    told = {"n": f"{len(sample):,}", "split": sample.name, "missing": ""}
    return {name: told | section for name, section in found.items()}


def _map(sample: Sample) -> dict[str, Any]:
    try:
        layout = projection.project(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    labels = sample.labels[layout.rows]
    present, counts = np.unique(labels[labels >= 0], return_counts=True)
    shown = np.sort(present[np.argsort(-counts, kind="stable")[: len(charts.CLASSES)]])
    names = {int(label): _cut(sample.class_name(int(label)), 24) for label in shown}
    told = [sample.class_name(int(label)) for label in labels]
    points = charts.rows(
        x=layout.points[:, 0],
        y=layout.points[:, 1],
        group=[names.get(int(label), "other") for label in labels],
        told=told,
        picture=np.arange(len(labels)),
    )
    hover = {"picture": "picture", "told": " "}
    section: dict[str, Any] = {
        "kind": layout.kind,
        "n": f"{len(layout.rows):,}",
        "components": layout.components,
        "explained": f"{100 * layout.explained:.0f} %",
        "others": len(present) - len(shown),
        "unlabelled": bool((labels < 0).any()),
        "thumbnails": gallery.thumbnails(sample, layout.rows),
        "entropy": None,
        "legend": list(zip(names.values(), charts.CLASSES, strict=False)),
    }
    axes = ("first component", "second component") if layout.kind == "PCA" else None
    if not _no_posterior(sample):
        assert sample.scale is not None
        nats = gallery.entropy(sample.scale)[layout.rows]
        points = [{**p, "nats": f"{n:.1f}"} for p, n in zip(points, nats, strict=True)]
        hover["nats"] = "entropy [nats]"
        section["entropy"] = _entropy_map(points, nats, hover, axes)
    spots = [(name, _densest(layout.points[labels == label])) for label, name in names.items()]
    section["plot"] = plots.scatter(
        f"{layout.kind} map of {len(layout.rows)} images, coloured by class",
        points,
        list(names.values()),
        charts.CLASSES[: len(names)],
        hover=hover,
        labels=[{"x": float(at[0]), "y": float(at[1]), "text": _cut(t, 16)} for t, at in spots],
        axes=axes,
        size=620,
    )
    return section


def _entropy_map(
    points: charts.Values, nats: Floats, hover: dict[str, str], axes: tuple[str, str] | None
) -> Any:
    """The same map in five classes of posterior entropy, each a fifth of the images."""
    edges = np.quantile(nats, np.linspace(0, 1, len(charts.LEVELS) + 1))
    groups = [f"{low:.1f} to {high:.1f} nats" for low, high in itertools.pairwise(edges)]
    levels = np.searchsorted(edges[1:-1], nats)
    drawn = [{**p, "group": groups[level]} for p, level in zip(points, levels, strict=True)]
    alt = "The same map, coloured by the entropy of the posterior"
    plot = plots.scatter(alt, drawn, groups, charts.LEVELS, hover=hover, axes=axes)
    return {"plot": plot, "legend": list(zip(groups, charts.LEVELS, strict=True))}


def _densest(points: Floats, neighbours: int = 10) -> Floats:
    """The point ``(2,)`` that is nearest to its own nearest points: inside a cluster, always."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.sort(distances, axis=1)[:, : neighbours + 1]
    return points[near.mean(axis=1).argmin()]


def _neighbours(sample: Sample, bank: Sample) -> dict[str, Any]:
    if not (np.isfinite(sample.embeddings).all() and np.isfinite(bank.embeddings).all()):
        return {"missing": "some embeddings are NaN or infinite"}
    if len(bank) < 2:
        return {"missing": "fewer than two images to search in"}
    agreement = gallery.agreement(sample, bank, NEIGHBOURS)
    return {
        "rows": gallery.neighbours(sample, bank, gallery.choose_queries(sample), NEIGHBOURS),
        "labelled": sample.labelled and bank.labelled,
        "bank": bank.name,
        "bank_n": f"{len(bank):,}",
        "bank_total": f"{bank.total:,}",
        "agreement": None if agreement is None else f"{100 * agreement:.1f} %",
    }


def _certainty(sample: Sample) -> dict[str, Any]:
    reason = _no_posterior(sample) or ("fewer than two images" if len(sample) < 2 else "")
    if reason:
        return {"missing": reason}
    assert sample.scale is not None
    certain, uncertain = gallery.extremes(sample)
    nats = gallery.entropy(sample.scale)
    low, median, high = (f"{np.quantile(nats, q):.1f}" for q in (0, 0.5, 1))
    told = {"certain": certain, "uncertain": uncertain}
    return told | {"low": low, "median": median, "high": high}


def _spectrum(sample: Sample) -> dict[str, Any]:
    try:
        shares = projection.shares_of_variance(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    count = len(shares)
    floor = max(float(shares[0]) * 1e-8, 1e-30)
    return {
        "plot": plots.curve(
            np.arange(1, count + 1),
            shares.clip(min=floor),
            x_label="index of the eigenvalue",
            y_label="share of variance",
            reference=(1 / count, f"all directions equal: 1/{count}"),
            log=True,
        ),
        "ratio": f"{projection.participation_ratio(shares):.1f}",
        "features": count,
        "ninety": int(np.searchsorted(np.cumsum(shares), 0.9) + 1),
        "few": len(sample) <= count,
    }


def _scale(sample: Sample, standard_prior: bool) -> dict[str, Any]:
    if reason := _no_posterior(sample):
        return {"missing": reason}
    assert sample.scale is not None
    assert sample.loc is not None
    scale, rank = sample.scale, np.arange(1, sample.scale.shape[1] + 1)
    order = np.argsort(scale.mean(axis=0))
    low, high = (np.quantile(scale, q, axis=0)[order] for q in (0.05, 0.95))
    kl = 0.5 * (sample.loc**2 + scale**2 - 1 - 2 * np.log(scale)).mean(axis=0)
    ranked = partial(plots.curve, rank, x_label="rank of the feature")
    section: dict[str, Any] = {
        "histogram": plots.histogram(
            scale,
            "posterior scale σ",
            reference=(1.0, "prior σ = 1") if standard_prior else None,
            log=True,
        ),
        "features": ranked(
            scale.mean(axis=0)[order], y_label="σ, mean over images", band=(low, high)
        ),
        "kl": None,
        "median": f"{np.median(scale):.3g}",
        "count": len(rank),
    }
    if standard_prior:
        section["kl"] = {
            "plot": ranked(np.sort(kl), y_label="nats per feature", limits=(0.0, None)),
            "inactive": int((kl < 0.01).sum()),
            "total": f"{kl.sum():.1f}",
        }
    return section


def has_standard_prior(method: Any) -> bool:
    """Whether the method's latent has the standard normal prior."""
    if not isinstance(method, EmbeddingModel):
        return False
    law = getattr(method.prior_distribution(), "base_dist", None)
    return isinstance(law, Normal) and bool((law.loc == 0).all() and (law.scale == 1).all())


def _no_posterior(sample: Sample) -> str:
    if sample.scale is None or sample.loc is None:
        return "this method has no posterior (it gives points, not distributions)"
    if not (np.isfinite(sample.loc).all() and np.isfinite(sample.scale).all()):
        return "some posterior means or scales are NaN or infinite"
    if (sample.scale <= 0).any():
        return "some posterior scales are zero"
    return ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _listing(items: list[str], limit: int = 6) -> str:
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[: limit - 1])}, … {items[-1]}: {len(items)} in all"
