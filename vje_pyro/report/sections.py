"""What each section of the page shows, as the template reads it."""

import base64
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch.distributions import Normal

from vje_pyro._version import __version__
from vje_pyro.errors import DataError
from vje_pyro.report import (
    curves,
    diagnostics,
    facts,
    gallery,
    plots,
    projection,
    several_views,
    svg,
)
from vje_pyro.report.collect import (
    Floats,
    Log,
    Results,
    Run,
    Sample,
    measure,
    read_log,
    read_results,
    split_sizes,
)

QUERY_SPLITS = ("test", "val", "train", "pretrain")
BANK_SPLITS = ("train", "pretrain", "test")
QUERY_LIMIT, BANK_LIMIT = 2_000, 5_000
NEIGHBOURS = 8
MAX_TILES = 6
NAMED_CLASSES = len(svg.CLASSES)


def context(run: Run) -> dict[str, Any]:
    """Everything that the page shows, by section."""
    steps = read_log(Path(run.path) / "logs" / "steps.csv")
    epochs = read_log(Path(run.path) / "logs" / "epochs.csv")
    sizes = split_sizes(run.source, ("pretrain", "train", "val", "test"))
    results = read_results(Path(run.path) / "results")
    rows = facts.training_facts(
        run,
        sizes,
        steps.last("step") if steps else None,
        steps.last("time") if steps else None,
    )
    info = facts.as_json({**run.info, "config": run.config})
    return {
        "title": f"{type(run.method).__name__} on {run.source.name}",
        "run_name": Path(run.path).resolve().name,
        "summary": facts.summary(rows, sizes, run.source.name),
        "facts": rows,
        "components": facts.distinct_components(run.config),
        "tiles": _tiles(results, epochs, run.method.num_features),
        "alarms": _alarms(epochs),
        "results": _results(results),
        "curves": _curves(run, steps, epochs),
        **_pictures(run),
        "views": several_views.section(results),
        "diagnostics": diagnostics.section(Path(run.path)),
        "command": facts.command(run.info),
        "run_path": shlex.quote(str(run.path)),
        "info": info,
        "info_uri": "data:application/json;base64," + base64.b64encode(info.encode()).decode(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
    }


def _tiles(results: Results, epochs: Log | None, num_features: int) -> list[dict[str, str]]:
    """Headline figures: those of the method's own features, then the effective rank."""
    tiles = [
        {
            "name": f"{result.protocol}: {_words(name)}",
            "value": _short(figure.value),
            "note": f"[{_short(figure.low)}, {_short(figure.high)}]",
        }
        for _, result in results.read
        if result.features != "pixels"
        for name, figure in result.figures.items()
    ]
    rank = epochs.last("rankme") if epochs else None
    if rank is not None:
        tiles = tiles[: MAX_TILES - 1]
        tiles.append({"name": "RankMe", "value": f"{rank:.1f}", "note": f"of {num_features}"})
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
        "raised": [
            {"text": kind["text"], "epochs": _listing(kind["at"])} for kind in raised.values()
        ],
        "count": sum(bool(text) for text in epochs.alarms),
        "of": count,
        "now": bool(epochs.alarms[-1]),
    }


def _results(results: Results) -> dict[str, Any]:
    rows = []
    for file, result in results.read:
        for name, figure in result.figures.items():
            bar = 0 <= figure.low <= figure.value <= figure.high <= 1
            rows.append(
                {
                    "protocol": result.protocol,
                    "name": _words(name),
                    "value": _short(figure.value),
                    "low": _short(figure.low),
                    "high": _short(figure.high),
                    "n": f"{figure.n:,}",
                    "interval": figure.interval,
                    "features": f"{result.method}, {result.features}",
                    "data": result.dataset.get("name", ""),
                    "file": file,
                    "bar": [100 * v for v in (figure.low, figure.value, figure.high)]
                    if bar
                    else None,
                }
            )
    settings = {file: facts.as_json(result.settings) for file, result in results.read}
    return {"rows": rows, "refused": results.refused, "settings": settings}


def _curves(run: Run, steps: Log | None, epochs: Log | None) -> dict[str, Any]:
    missing = [
        f"logs/{name}.csv is not there or has no rows"
        for name, log in (("steps", steps), ("epochs", epochs))
        if log is None
    ]
    classes = run.source.num_classes or 0
    return {
        "panels": curves.panels(steps, epochs, run.method.num_features, classes),
        "missing": "; ".join(missing),
    }


def _pictures(run: Run) -> dict[str, Any]:
    """The sections that need images; each says why where it cannot be drawn."""
    names = ("spectrum", "scale", "certainty", "neighbours", "map")
    try:
        sample = measure(run, QUERY_SPLITS, QUERY_LIMIT)
        bank = measure(run, BANK_SPLITS, BANK_LIMIT)
    except DataError as error:
        return {name: {"missing": f"the images could not be read: {error}"} for name in names}
    return {
        "spectrum": _spectrum(sample),
        "scale": _scale(sample, has_standard_prior(run.method)),
        "certainty": _certainty(sample),
        "neighbours": _neighbours(sample, bank),
        "map": _map(sample),
    }


def _spectrum(sample: Sample) -> dict[str, Any]:
    try:
        shares = projection.shares_of_variance(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    return {
        "missing": "",
        "plot": plots.spectrum("spectrum", shares),
        "cumulative": plots.cumulative("spectrum-sum", shares),
        "rank": f"{projection.effective_rank(shares):.1f}",
        "features": len(shares),
        "ninety": int(np.searchsorted(np.cumsum(shares), 0.9) + 1),
        "n": f"{len(sample):,}",
        "split": sample.name,
        "few": len(sample) <= len(shares),
    }


def _scale(sample: Sample, standard_prior: bool) -> dict[str, Any]:
    reason = _no_posterior(sample)
    if reason:
        return {"missing": reason}
    assert sample.scale is not None
    assert sample.loc is not None
    scale = sample.scale
    band = (np.quantile(scale, 0.05, axis=0), np.quantile(scale, 0.95, axis=0))
    reference = (1.0, "prior σ = 1") if standard_prior else None
    return {
        "missing": "",
        "histogram": plots.histogram("sigma", scale.ravel(), "posterior scale σ", reference),
        "features": plots.ranked(
            "sigma-feature", scale.mean(axis=0), y_label="σ, mean over images", band=band
        ),
        "kl": _kl(sample.loc, scale) if standard_prior else None,
        "median": f"{np.median(scale):.3g}",
        "count": scale.shape[1],
        "n": f"{len(sample):,}",
        "split": sample.name,
    }


def _kl(loc: Floats, scale: Floats) -> dict[str, Any]:
    kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).mean(axis=0)
    return {
        "plot": plots.ranked("kl-feature", kl, y_label="nats per feature", from_zero=True),
        "inactive": int((kl < 0.01).sum()),
        "total": f"{kl.sum():.1f}",
    }


def has_standard_prior(method: Any) -> bool:
    """Whether the method's latent has the standard normal prior."""
    if not hasattr(method, "prior_distribution"):
        return False
    law = getattr(method.prior_distribution(), "base_dist", None)
    return isinstance(law, Normal) and bool((law.loc == 0).all() and (law.scale == 1).all())


def _certainty(sample: Sample) -> dict[str, Any]:
    reason = _no_posterior(sample) or ("fewer than two images" if len(sample) < 2 else "")
    if reason:
        return {"missing": reason}
    assert sample.scale is not None
    certain, uncertain = gallery.extremes(sample)
    nats = gallery.entropy(sample.scale)
    return {
        "missing": "",
        "certain": certain,
        "uncertain": uncertain,
        "n": f"{len(sample):,}",
        "split": sample.name,
        "median": f"{np.median(nats):.1f}",
        "low": f"{nats.min():.1f}",
        "high": f"{nats.max():.1f}",
    }


def _neighbours(sample: Sample, bank: Sample) -> dict[str, Any]:
    if not (np.isfinite(sample.embeddings).all() and np.isfinite(bank.embeddings).all()):
        return {"missing": "some embeddings are NaN or infinite"}
    if len(bank) < 2:
        return {"missing": "fewer than two images to search in"}
    agreement = gallery.agreement(sample, bank, NEIGHBOURS)
    return {
        "missing": "",
        "rows": gallery.neighbours(sample, bank, gallery.choose_queries(sample), NEIGHBOURS),
        "labelled": sample.labelled and bank.labelled,
        "split": sample.name,
        "bank": bank.name,
        "bank_n": f"{len(bank):,}",
        "bank_total": f"{bank.total:,}",
        "n": f"{len(sample):,}",
        "agreement": None if agreement is None else f"{100 * agreement:.1f} %",
    }


def _map(sample: Sample) -> dict[str, Any]:
    try:
        layout = projection.project(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    labels = sample.labels[layout.rows]
    present, counts = np.unique(labels[labels >= 0], return_counts=True)
    shown = np.sort(present[np.argsort(-counts, kind="stable")[:NAMED_CLASSES]])
    groups = np.full(len(labels), -1)
    for index, label in enumerate(shown):
        groups[labels == label] = index
    names = [sample.class_name(int(label)) for label in shown]
    axis_labels = ("first component", "second component") if layout.kind == "PCA" else ("", "")
    section: dict[str, Any] = {
        "missing": "",
        "kind": layout.kind,
        "n": f"{len(layout.rows):,}",
        "split": sample.name,
        "components": layout.components,
        "explained": f"{100 * layout.explained:.0f} %",
        "legend": [(f"class-{index}", name) for index, name in enumerate(names)],
        "others": len(present) - len(shown),
        "unlabelled": bool((labels < 0).any()),
        "plot": plots.scatter(
            "map",
            layout.points,
            groups,
            svg.CLASSES[: len(names)],
            axis_labels=axis_labels,
            alt=f"{layout.kind} map of {len(layout.rows)} images, coloured by class",
            labels=[name if len(name) <= 16 else name[:15] + "…" for name in names],
        ),
        "entropy": None,
    }
    if not _no_posterior(sample):
        assert sample.scale is not None
        nats = gallery.entropy(sample.scale)[layout.rows]
        section |= _entropy_map(layout, nats, axis_labels)
    return section


def _entropy_map(
    layout: projection.Projection, nats: Floats, axis_labels: tuple[str, str]
) -> dict[str, Any]:
    """The same map in five classes of posterior entropy, each a fifth of the images."""
    count = len(svg.LEVELS)
    edges = np.quantile(nats, np.linspace(0, 1, count + 1))
    levels = np.searchsorted(edges[1:-1], nats)
    return {
        "entropy": plots.scatter(
            "map-entropy",
            layout.points,
            levels,
            svg.LEVELS,
            axis_labels=axis_labels,
            alt="The same map, coloured by the entropy of the posterior",
        ),
        "levels": [(f"level-{i}", f"{edges[i]:.1f} to {edges[i + 1]:.1f}") for i in range(count)],
    }


def _no_posterior(sample: Sample) -> str:
    if sample.scale is None or sample.loc is None:
        return "this method has no posterior (it gives points, not distributions)"
    if not (np.isfinite(sample.loc).all() and np.isfinite(sample.scale).all()):
        return "some posterior means or scales are NaN or infinite"
    if (sample.scale <= 0).any():
        return "some posterior scales are zero"
    return ""


def _listing(items: list[str], limit: int = 6) -> str:
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[: limit - 1])}, … {items[-1]}: {len(items)} in all"


def _words(name: str) -> str:
    """The name of a figure in words.

    >>> _words("accuracy_5"), _words("train_accuracy")
    ('accuracy, 5 labels a class', 'train accuracy')
    """
    few = re.fullmatch(r"accuracy_(\d+)", name)
    if few:
        return f"accuracy, {few[1]} {'label' if few[1] == '1' else 'labels'} a class"
    return name.replace("_", " ")


def _short(value: float) -> str:
    """Three decimals for figures of the size of a probability, else four digits."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
