"""What was trained, in words and rows, from the configuration and ``run.json`` of a run."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from vje_pyro.report.collect import Run


def find(config: Any, *names: str) -> Any:
    """The value of the first of ``names`` found in a nested configuration.

    A name with dots is a place; a plain one is looked for everywhere, outermost first.
    """
    for name in names:
        start, _, last = name.rpartition(".")
        level = [_at(config, start)] if start else [config]
        while level:
            for node in level:
                if node.get(last) is not None:
                    return node[last]
            level = [v for node in level for v in node.values() if isinstance(v, Mapping)]
    return None


def components(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every part of the configuration that a ``_target_`` builds: its place and its call.

    >>> list(components({"guide": {"_target_": "vje_pyro.guides.DiagonalNormal", "hidden": 64}}))
    [('guide', 'DiagonalNormal(hidden=64)')]
    """
    if "_target_" in config:
        yield path or "run", _call(config)
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from components(value, f"{path}.{key}" if path else str(key))


def distinct_components(config: Mapping[str, Any]) -> dict[str, str]:
    """Components by place, without repetitions of one that is also part of another.

    A configuration holds the encoder by itself and again inside the method.
    """
    found: dict[str, str] = {}
    for place, call in components(config):
        if call not in found.values():
            found[place] = call
    return found


def command(info: Mapping[str, Any]) -> str:
    """The command line that made the run, "" where it is not recorded."""
    recorded = info.get("command") or ""
    if isinstance(recorded, str):
        return recorded
    program, *arguments = map(str, recorded)
    # An installed program is called by its name, wherever it was installed.
    name = program if program.endswith(".py") else Path(program).name
    return shlex.join([name, *arguments])


def as_json(value: Any) -> str:
    """A readable JSON text of anything that a run records."""
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(75.2), duration(4000), duration(3.21)
    ('1 min 15 s', '1 h 7 min', '3.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return "{} min {} s".format(*divmod(int(seconds), 60))
    return "{} h {} min".format(*divmod(round(seconds / 60), 60))


def parameters(module: Any) -> int | None:
    """Number of parameters, None for what is not a module."""
    if not isinstance(module, torch.nn.Module):
        return None
    return sum(p.numel() for p in module.parameters())


def training_facts(
    run: Run, sizes: Mapping[str, int], steps: float | None, seconds: float | None
) -> dict[str, str]:
    """Rows of the table "what was trained"; what is not recorded is left out."""
    config, info, source = run.config, run.info, run.source
    encoder = run.method.encoder
    weights = parameters(encoder)
    side, channels = source.image_size, source.channels
    facts: dict[str, Any] = {
        "Method": type(run.method).__name__,
        "Likelihoods": _likelihoods(config),
        "Guide": _named(config, "guide", "posterior"),
        "Encoder": type(encoder).__name__,
        "Embedding": f"D = {run.method.num_features}",
        "Parameters": (f"{weights:,} of the encoder, " if weights else "")
        + f"{parameters(run.method) or 0:,} in all",
        "Data": f"{source.name}: {side} × {side} pixels, {_count(channels, 'channel')}, "
        + (_count(source.num_classes, "class", "es") if source.num_classes else "classes unknown"),
        "Images": ", ".join(f"{name} {size:,}" for name, size in sizes.items()),
        "Optimiser": _named(config, "optimizer", "optimiser", "optim"),
        "Schedule": _named(config, "schedule", "scheduler"),
        "Batch": find(config, "loader.batch_size", "batch_size"),
        "Epochs": find(config, "training.epochs", "epochs"),
        "Steps": None if steps is None else f"{steps:,.0f}",
        "Precision": info.get("precision") or find(config, "precision"),
        "Seed": info.get("seed", find(config, "seed")),
        "Training time": None if seconds is None else duration(seconds),
        "Created": _moment(info.get("created")),
        "Resumed": _count(len(info["resumed"]), "time") if info.get("resumed") else None,
        "Commit": info.get("commit") or "not recorded",
        "Versions": _versions(info.get("versions")),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def summary(facts: Mapping[str, str], sizes: Mapping[str, int], data_name: str) -> str:
    """What was trained, in one sentence."""
    names = re.sub(r"\([^()]*\)", "", facts.get("Likelihoods", ""))  # without arguments
    likelihoods = f" ({names})" if names else ""
    count = sizes.get("pretrain") or sizes.get("train")
    parts = [f"{facts['Method']}{likelihoods} was trained on "]
    parts.append(f"{count:,} images of {data_name}" if count else data_name)
    if "Encoder" in facts:
        parts.append(f" with the encoder {facts['Encoder']}")
    parts.append(f", {facts['Embedding']}")
    if "Epochs" in facts:
        parts.append(f", for {_count(facts['Epochs'], 'epoch')}")
    if "Training time" in facts:
        parts.append(f" in {facts['Training time']}")
    if "Seed" in facts:
        parts.append(f", seed {facts['Seed']}")
    return "".join(parts) + "."


def _at(config: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    for key in place.split("."):
        node = config.get(key)
        config = node if isinstance(node, Mapping) else {}
    return config


def _likelihoods(config: Mapping[str, Any]) -> str | None:
    """Factors of the likelihood, by the usual names of their places in a configuration."""
    roles = ("direction", "directional", "radius", "radial", "likelihood")
    parts = components(config.get("method", config))
    found = [call for place, call in parts if place.split(".")[-1] in roles]
    return " × ".join(found) or None


def _named(config: Mapping[str, Any], *names: str) -> str | None:
    node = find(config, *names)
    if isinstance(node, Mapping):
        return _call(node) if "_target_" in node else str(node.get("name") or "") or None
    return None if node is None else str(node)


def _call(node: Mapping[str, Any]) -> str:
    arguments = ", ".join(
        f"{key}={_plain(value)}"
        for key, value in node.items()
        if not str(key).startswith("_") and not isinstance(value, Mapping)
    )
    return f"{str(node['_target_']).rsplit('.', 1)[-1]}({arguments})"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "(" + ", ".join(map(_plain, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _moment(text: Any) -> str | None:
    """A time of ISO 8601 without what nobody reads; other texts as they are."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return None if text is None else str(text)


def _versions(versions: Any) -> str | None:
    if not isinstance(versions, Mapping):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _count(number: Any, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}" + ("" if str(number) == "1" else plural)
