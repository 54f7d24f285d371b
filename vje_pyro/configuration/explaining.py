"""What every key of a configuration means: the comments of its files, else the docstrings."""

import re
from collections.abc import Iterator, Sequence
from pkgutil import resolve_name
from typing import Any

from docstring_parser import parse
from omegaconf import OmegaConf

from vje_pyro.configuration import CONFIG_DIR, groups
from vje_pyro.configuration.choosing import with_experiment
from vje_pyro.configuration.overrides import composed, readable

_LINE = re.compile(r"^( *)(?:- )?([\w/]+):(?: (.*?))?(?: *# ?(.*))?$")

_GROUPS = {"training.": "vje_pyro.training.loop.Trainer"}
"""Components of groups that name none."""


def explained_keys(words: Sequence[str]) -> list[str]:
    """A line ``KEY=VALUE  # MEANING`` for every key of the configuration with overrides.

    Raises:
        VJEError: They do not compose.
    """
    words = with_experiment(readable(words))
    config = composed(words)
    choices = composed(words, with_hydra=True).hydra.runtime.choices
    meanings = _comments("train.yaml", "")
    for group, names in groups().items():
        # Hydra does not tell choices that are a list, as logger=[tensorboard,wandb].
        for choice in names if group == "logger" else {choices.get(group)} & set(names):
            meanings |= _comments(f"{group}/{choice}.yaml", group.replace("/", "."))
    lines = []
    plain: Any = OmegaConf.to_container(config)
    for key, value, component in _leaves(plain):
        meaning = meanings.get(key) or _documented(key, component)
        lines.append(f"{key}={value}".ljust(48) + (f"  # {meaning}" if meaning else ""))
    return lines


def _comments(name: str, package: str) -> dict[str, str]:
    """The comments at the end of the lines of a file, by key."""
    text = (CONFIG_DIR / name).read_text(encoding="utf-8")
    above = [] if text.startswith("# @package _global_") or not package else [package]
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        if match := _LINE.match(line):
            indent, key, _, comment = match.groups()
            stack = [(i, k) for i, k in stack if i < len(indent)] + [(len(indent), key)]
            if comment:
                found[".".join([*above, *(k for _, k in stack)])] = comment.strip()
    return found


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Keys with their values as written, and the component that each is an argument of."""
    component = node.get("_target_", _GROUPS.get(prefix, ""))
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name not in ("_target_", "_partial_"):
            yield f"{prefix}{name}", "null" if value is None else value, component


def _documented(key: str, component: str) -> str:
    """What the docstrings of a component and its bases say of the argument that a key is."""
    if key.replace(".", "/") in groups():
        return "a group: " + ", ".join(groups()[key.replace(".", "/")])
    try:
        found = resolve_name(component)
    except Exception:  # there is none, or it is a user's own: training says what is wrong with it
        return ""
    name = key.rpartition(".")[2]
    for part in getattr(found, "__mro__", [found]):
        for argument in parse(part.__doc__ or "").params:
            if argument.arg_name == name and argument.description:
                return " ".join(argument.description.split())
    return ""
