"""Several methods on one data set: figures over seeds, cost, and what sets them apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.evaluation.result import Result
from vje_pyro.evaluation.seeds import check_comparable
from vje_pyro.report.collect import Floats, Log, read_log, read_results
from vje_pyro.run import read_run_json
from vje_pyro.statistics import Figure, over_repetitions, over_seeds, scale_of
from vje_pyro.training.run_dir import RunDir

NOT_COMPARED = (
    *("seed", "run_dir", "name", "data.root", "data.download", "loader.num_workers"),
    *("training.progress", "logger"),
    *("encoder", "guide", "likelihood", "prior", "aggregate", "image"),
)
"""Parts of a configuration that change nothing, that seeds are averaged over, or that act through
the method, whose configuration repeats them."""

SAME = (
    *("data", "views", "method.encoder", "loader.batch_size"),
    *("training.epochs", "training.max_steps"),
)
"""What a comparison at equal budget must share; a difference is said loudly."""

CURVES = ("knn", "rankme")
"""Columns of ``epochs.csv`` that are drawn."""


@dataclass(frozen=True)
class Curve:
    """A quantity along training, the mean over seeds.

    Args:
        epoch: ``(E,)``.
        seconds: Wall time of training at the end of each epoch, ``(E,)``.
        value: ``(E,)``; NaN where it was not measured.
    """

    epoch: Floats
    seconds: Floats
    value: Floats


@dataclass(frozen=True)
class Contender:
    """One method, or one variant of it, from the runs of its seeds.

    Args:
        label: Name in the tables.
        seeds: Seeds of the runs.
        figures: By protocol (and data set out of distribution, where there is one) and name.
        logged: ``rankme`` at the end, ``step_ms`` (time of a training step), ``peak_memory``
            (MiB) and ``minutes`` (of training), where the logs tell.
        curves: By column of ``epochs.csv``.
        config: Configuration of the first run, flat, by dotted key.
    """

    label: str
    seeds: tuple[int, ...]
    figures: dict[tuple[str, str], Figure]
    logged: dict[str, Figure]
    curves: dict[str, Curve]
    config: dict[str, Any]


def read_contender(label: str, runs: Sequence[str | Path], features: str = "encoder") -> Contender:
    """Read the results and logs of one method's runs.

    Args:
        label: Name in the tables.
        runs: Run directories, one a seed.
        features: Whose results are read (see :mod:`vje_pyro.evaluation.features`).

    Raises:
        CheckpointError: If a run is missing or damaged.
        VJEError: If the runs are not repetitions of one experiment, or a result is damaged.
    """
    paths = [Path(run) for run in runs]
    infos = [read_run_json(path) for path in paths]
    configs = [dict(flatten(info["config"])) for info in infos]
    for path, config in zip(paths[1:], configs[1:], strict=True):
        changed = sorted(_differing([configs[0], config]))
        if changed:
            raise VJEError(
                f"{label}: {paths[0]} and {path} differ in {changed[:5]}: give them different "
                "labels, or only runs that differ in the seed"
            )
    steps = [read_log(RunDir(path).steps) for path in paths]
    epochs = [read_log(RunDir(path).epochs, needed=("epoch", "time")) for path in paths]
    return Contender(
        label=label,
        seeds=tuple(info["seed"] for info in infos),
        figures=figures_over_seeds(label, _results(paths, features), len(paths)),
        logged=_logged(steps, epochs, configs[0]),
        curves=_curves([log for log in epochs if log is not None]),
        config=configs[0],
    )


def check_labels(contenders: Sequence[Contender]) -> None:
    """Refuse labels that repeat.

    Raises:
        VJEError: If they do.
    """
    labels = [contender.label for contender in contenders]
    if len(set(labels)) < len(labels):
        raise VJEError(f"labels {labels} repeat: give every method a label of its own")


def check_equal_budget(contenders: Sequence[Contender]) -> None:
    """Refuse to compare runs on other images or views, of another encoder or budget.

    Raises:
        VJEError: If they are; it names what differs.
    """
    if keys := unequal_budget(contenders):
        values = ", ".join(str(contender.config.get(keys[0])) for contender in contenders)
        raise VJEError(
            f"the methods were not trained alike: {keys[:5]} differ ({keys[0]} is {values}); give "
            "runs of the same images, views, encoder and budget, or --force to compare them all "
            "the same, marked in the tables"
        )


def differences(contenders: Sequence[Contender]) -> dict[str, list[Any]]:
    """Configuration keys that are not the same for all, with each one's value (None: absent)."""
    configs = [contender.config for contender in contenders]
    return {key: [config.get(key) for config in configs] for key in sorted(_differing(configs))}


def unequal_budget(contenders: Sequence[Contender]) -> list[str]:
    """Keys among the differences that a comparison must share: images, views, encoder, budget."""
    return [key for key in differences(contenders) if _within(key, SAME)]


def unlike_first(contenders: Sequence[Contender]) -> list[bool]:
    """Whether each differs from the first in something that a fair comparison must share."""
    return [bool(unequal_budget([contenders[0], contender])) for contender in contenders]


def as_json(contenders: Sequence[Contender]) -> dict[str, Any]:
    """All figures and differences, JSON-like."""
    return {
        "contenders": [
            {
                "label": contender.label,
                "seeds": list(contender.seeds),
                "figures": {" ".join(key): asdict(f) for key, f in contender.figures.items()},
                "logged": {name: asdict(figure) for name, figure in contender.logged.items()},
            }
            for contender in contenders
        ],
        "differences": differences(contenders),
        "unequal_budget": unequal_budget(contenders),
    }


def _results(runs: Sequence[Path], features: str) -> list[Result]:
    found = []
    for run in runs:
        results = read_results(RunDir(run).results)
        if results.refused:
            raise VJEError(f"{run}: {results.refused[0][1]}")
        found += [result for _, result in results.read if result.features == features]
    return found


def figures_over_seeds(
    label: str, results: Iterable[Result], least: int = 1
) -> dict[tuple[str, str], Figure]:
    """Figures by protocol (and data set out of distribution) and name.

    Args:
        label: Whose results they are.
        results: Of every seed and protocol.
        least: Seeds that every protocol must have.

    Raises:
        VJEError: If a protocol has fewer, or its results are not repetitions of one experiment.
    """
    by_protocol: dict[str, list[Result]] = {}
    for result in results:
        by_protocol.setdefault(_name(result), []).append(result)
    figures = {}
    for protocol, found in by_protocol.items():
        check_comparable(f"{label}, {protocol}", found)
        if len(found) < least:
            raise VJEError(
                f"{label}: {protocol} was measured on {len(found)} of {least} runs; evaluate "
                "the others too"
            )
        for name in found[0].figures:
            each = [result.figures[name] for result in found if name in result.figures]
            figures[protocol, name] = over_seeds(each, scale_of(name))
    return figures


def _name(result: Result) -> str:
    """The protocol, with the data set that is out of distribution, where there is one."""
    out = result.dataset.get("out")
    return result.protocol if out is None else f"{result.protocol} {out}"


def _logged(
    steps: Sequence[Log | None], epochs: Sequence[Log | None], config: Mapping[str, Any]
) -> dict[str, Figure]:
    rates = [log.get("images_per_second") for log in steps if log is not None]
    batch = _batch_size(config)
    columns: dict[str, list[Any]] = {
        "rankme": [log.last("rankme") for log in epochs if log is not None],
        "step_ms": [1000 * batch / np.nanmedian(rate) for rate in rates if rate is not None],
        "peak_memory": [log.last("peak_memory") for log in epochs if log is not None],
        "minutes": [(log.last("time") or np.nan) / 60 for log in epochs if log is not None],
    }
    logged = {}
    for name, values in columns.items():
        known = [float(value) for value in values if value is not None and np.isfinite(value)]
        if known:
            logged[name] = over_repetitions(known, scale_of(name))
    return logged


def _batch_size(config: Mapping[str, Any]) -> float:
    size = config.get("loader.batch_size")
    if not isinstance(size, int):
        raise CheckpointError(f"run.json says loader.batch_size={size!r}, which is no number.")
    return float(size)


def _curves(logs: Sequence[Log]) -> dict[str, Curve]:
    """Means over the epochs that all seeds have."""
    curves = {}
    for name in CURVES:
        columns = [log.columns for log in logs if log.get(name) is not None]
        if not columns:
            continue
        length = min(len(column[name]) for column in columns)
        epoch, seconds, value = (
            np.mean([column[key][:length] for column in columns], axis=0)
            for key in ("epoch", "time", name)
        )
        curves[name] = Curve(epoch, seconds, value)
    return curves


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested mapping by dotted key."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def _differing(configs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Dotted keys whose values are not all the same."""
    return {
        key
        for config in configs
        for key in config
        if not _within(key, NOT_COMPARED)
        and any(other.get(key) != config[key] for other in configs)
    }


def _within(key: str, groups: Sequence[str]) -> bool:
    return any(key == group or key.startswith(group + ".") for group in groups)
