"""Odd values for every key of the configuration of ``vje train``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

NAN, INF = float("nan"), float("inf")

ANYTHING = ({}, {"a": 1}, [[]], [{"a": 1}], "", "???", "${nowhere}")
"""What is wrong nearly everywhere."""

BY_TYPE: dict[type, tuple[Any, ...]] = {
    bool: (0, 1, 0.5, "abc", None, [True]),
    int: (-1, 0, 1.5, NAN, INF, True, "abc", "3", None, [1], 10**12, 10**40),
    float: (-1, -0.5, 1e308, NAN, INF, -INF, True, "abc", "0.5", None, [0.5, 0.5, 0.5]),
    str: (0, 1.5, True, None, ["abc"], "no-such", "x" * 5000, "a\nb"),
    list: (0, -1, True, "abc", None, [], [0], [-1], [NAN], [INF], ["abc"], [None], [1, 2, 3, 4]),
    type(None): (-1, 0, 1.5, NAN, True, "abc", [1]),
}
"""Odd values of a key by the type that it has."""

UNUSUAL: dict[type, tuple[Any, ...]] = {
    bool: (False, True),
    int: (1, 2, 3, 5, 1000),
    float: (0, 1e-300, 1e-12, 0.5, 1, 3, 1e6, 1e300),
    str: ("auto", "a b", "é", "../x"),
    list: ([1], [0.1, 0.2], [0.3, 0.3], [3, 3, 3], [1, 1e-9]),
    type(None): (1, 2, 0.25),
}
"""Values that some keys of the type take, and that few have been tried with."""

WRONG_TYPE: dict[type, tuple[Any, ...]] = {
    bool: (0, 1, 0.5, "abc", None, [True], {"a": 1}),
    int: (1.5, NAN, INF, True, "abc", "3", None, [1.5], ["abc"], {"a": 1}, 10**12),
    float: (NAN, INF, -INF, True, "abc", "0.5", None, ["abc"], {"a": 1}, -1),
    str: (0, 1.5, True, ["abc"], {"a": 1}),
    list: (-1, True, "abc", [[]], [NAN], ["abc"], [None], {"a": 1}),
}
"""Values that no key of the type takes."""


def leaves(node: DictConfig, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with dots and their values, of everything that is no group; those not set are None."""
    for key in node:
        name = f"{path}{key}"
        if OmegaConf.is_missing(node, key):
            yield name, None
        elif OmegaConf.is_interpolation(node, key) and name.startswith("method."):
            continue  # a group of its own
        elif isinstance(node[key], DictConfig):
            yield from leaves(node[key], f"{name}.")
        else:
            value = node[key]
            yield name, list(value) if isinstance(value, ListConfig) else value


@contextmanager
def changed(config: DictConfig, key: str, value: Any) -> Iterator[DictConfig]:
    """The configuration, in which one key, perhaps a new one, has another value in the block."""
    group = key.split(".")[0]
    before = OmegaConf.to_container(config)
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    try:
        yield config
    finally:
        del config[group]
        if group in before:
            config[group] = before[group]


def spelt(value: Any) -> str:
    """A value as Hydra's command line takes it."""
    if isinstance(value, str):
        bare = value in ("???", "") or value.startswith("${")
        return value if bare else "'" + value.replace("'", "\\'") + "'"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{spelt(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelt, value)) + "]"
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(str(value), str(value))
