"""What was trained, in words and rows, from the configuration and ``run.json`` of a run."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from vje_pyro.run import Representation


def find(config: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place of a configuration, None where there is none.

    >>> find({"loader": {"batch_size": 64}}, "loader.batch_size"), find({}, "loader.batch_size")
    (64, None)
    """
    node: Any = config
    for key in place.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


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
    first = {call: place for place, call in reversed(list(components(config)))}
    return {place: call for place, call in components(config) if first[call] == place}


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


def training_facts(
    run: Representation, sizes: Mapping[str, int], steps: float | None, seconds: float | None
) -> dict[str, str]:
    """Rows of the table "what was trained"; what is not recorded is left out."""
    config, info, source, encoder = run.config, run.info, run.source, run.method.encoder
    side, classes = source.image_size, source.num_classes
    kinds = _count(classes, "class", "es") if classes else "classes unknown"
    weights = (f"{sum(p.numel() for p in m.parameters()):,}" for m in (encoder, run.method))
    facts: dict[str, Any] = {
        "Method": type(run.method).__name__,
        "Likelihoods": _likelihoods(config),
        "Guide": _named(config, "method.guide"),
        "Encoder": type(encoder).__name__,
        "Embedding": f"D = {run.method.num_features}",
        "Parameters": "{} of the encoder, {} in all".format(*weights),
        "Data": f"{source.name}: {side} × {side} pixels, {_count(source.channels, 'channel')}, "
        + kinds,
        "Images": ", ".join(f"{name} {size:,}" for name, size in sizes.items()),
        "Optimiser": _named(config, "optimizer"),
        "Schedule": _named(config, "schedule"),
        "Batch": find(config, "loader.batch_size"),
        "Epochs": find(config, "training.epochs"),
        "Steps": None if steps is None else f"{steps:,.0f}",
        "Precision": info.get("precision") or find(config, "device.precision"),
        "Seed": info.get("seed", config.get("seed")),
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
    count = sizes.get("pretrain") or sizes.get("train")
    parts = [
        facts["Method"] + (f" ({names})" if names else ""),
        " was trained on ",
        f"{count:,} images of {data_name}" if count else data_name,
        f" with the encoder {facts['Encoder']}, {facts['Embedding']}",
        f", for {_count(facts['Epochs'], 'epoch')}" if "Epochs" in facts else "",
        f" in {facts['Training time']}" if "Training time" in facts else "",
        f", seed {facts['Seed']}" if "Seed" in facts else "",
    ]
    return "".join(parts) + "."


def _likelihoods(config: Mapping[str, Any]) -> str:
    """Factors of the likelihood."""
    calls = (_named(config, f"method.{name}") for name in ("direction", "radius"))
    return " × ".join(filter(None, calls))


def _named(config: Mapping[str, Any], place: str) -> str | None:
    node = find(config, place)
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
    """A time of ISO 8601 to the minute; other texts as they are."""
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
