"""The words ``key=value`` of the command line, as Hydra's grammar wants them.

The value of a key that names a file or folder is taken as it is, with ~ for the home folder: it may
hold any character. Everything else is Hydra's, whose grammar reads lists, numbers and choices; what
it cannot read, or reads as a choice where there is no sweep, is refused with the quotes that work.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vje_pyro.configuration import CONFIG_DIR, groups
from vje_pyro.errors import VJEError, first_line

Overrides = Sequence[str] | Mapping[str, Any]
"""Words ``key=value``, or values by their keys."""

PATHS = ("run_dir", "init_from", "data.root", "data.source.root", "data.index", "hydra.sweep.dir")

_PATH = re.compile(rf"(\+{{0,2}}(?:{'|'.join(map(re.escape, PATHS))}))=(.*)", re.DOTALL)
_PATTERN = ("glob(", "choice(", "'", '"', "[")  # a sweep's list of paths in Hydra's own words


MULTIRUN = ("-m", "--multirun")


def as_words(overrides: Overrides) -> list[str]:
    """Overrides as words of the command line.

    Example:
        >>> as_words({"training.epochs": 3, "encoder": "resnet18", "views.blur": [0.5, 0.1]})
        ['training.epochs=3', "encoder='resnet18'", 'views.blur=[0.5,0.1]']
    """
    if isinstance(overrides, Mapping):
        return [f"{key}={_written(value)}" for key, value in overrides.items()]
    return list(overrides)


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(QuotedString(str(value), Quote.single).with_quotes())


def composed(words: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """The configuration of ``train.yaml`` with overrides, as Hydra composes it.

    Args:
        words: Of the command line.
        with_hydra: Keep Hydra's own part, which tells the choices.

    Raises:
        VJEError: A word names no key or no choice, with the nearest that there is; or it cannot be
            used otherwise.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return _composed(list(words), with_hydra)


def _composed(words: list[str], with_hydra: bool) -> DictConfig:
    wrong: list[str] = []
    while True:
        try:
            config = compose("train", words, return_hydra_config=with_hydra)
            break
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            unknown = re.match(r"Could not override '(.+?)'\.", str(error))
            found = [word for word in words if unknown and word.split("=")[0] == unknown[1]]
            if not found:
                raise VJEError(f"the overrides cannot be used: {_told(error)}") from error
            wrong += found
            words = [word for word in words if word not in found]
    if wrong:
        known = [*_keys(OmegaConf.to_container(config)), *groups()]
        raise VJEError("\n".join(_unknown(word, known) for word in wrong))
    return config


def _unknown(word: str, known: Sequence[str]) -> str:
    key = word.split("=")[0]
    near = difflib.get_close_matches(key, known, n=1)
    parent = key.rpartition(".")[0]
    beside = [k for k in known if k.rpartition(".")[0] == parent and "/" not in k]
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(beside) or 'none'}"
    return f"{word}: there is no key {key}; {hint}"


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a group, and of those in it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _told(error: Exception) -> str:
    """Hydra's words, with the nearest choice of a group."""
    line = first_line(error)
    if choice := re.search(r"Could not (?:find|load) '(.+)/(.+?)'", line):
        plugin = choice[2].partition("_")[0]
        if choice[1].startswith("hydra/") and plugin in ("optuna", "submitit"):
            return f"{line}: pip install 'vje-pyro[{plugin}]'"
        choices = groups().get(choice[1], [])
        near = difflib.get_close_matches(choice[2], choices, n=1)
        return f"{line}: " + (f"did you mean {near[0]}?" if near else f"there are {choices}")
    return line


def readable(words: Sequence[str]) -> list[str]:
    """The words with quotes around paths.

    Raises:
        VJEError: Hydra's grammar cannot read a word, or reads a choice and there is no sweep.

    Example:
        >>> readable(["data.root=photos (1), new", "seed=1"])
        ["data.root='photos (1), new'", 'seed=1']
        >>> readable(["-m", "data.root=a,b"])
        ['-m', "data.root='a','b'"]
    """
    sweep = any(word in MULTIRUN for word in words)
    return [
        word if _is_option(words, i) else _readable(word, sweep) for i, word in enumerate(words)
    ]


def sample_jobs(words: Sequence[str]) -> list[list[str]]:
    """The first job of a sweep, and every job that differs from it in one word.

    Example:
        >>> sample_jobs(["data=digits", "seed=0,1", "encoder=resnet18,resnet34"])[1:]
        [['data=digits', 'seed=1', 'encoder=resnet18'],
         ['data=digits', 'seed=0', 'encoder=resnet34']]
    """
    choices = [values for override in _parsed(words) if (values := _choices(override))]
    first = [values[0] for values in choices]
    others = [[*first[:i], value, *first[i + 1 :]]
              for i, values in enumerate(choices) for value in values[1:]]  # fmt: skip
    return [first, *others]


def swept_keys(words: Sequence[str]) -> set[str]:
    """The keys that differ between the jobs of a sweep."""
    overrides = _parsed([word for i, word in enumerate(words) if not _is_option(words, i)])
    return {one.get_key_element() for one in overrides if one.is_sweep_override()}


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return []  # only Hydra knows the options
    key = override.get_key_element()
    interval = override.value()
    if isinstance(interval, IntervalSweep):  # Optuna's: both ends stand for what lies between
        return [f"{key}={interval.start}", f"{key}={interval.end}"]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def parsed(words: Sequence[str]) -> DictConfig:
    """The configuration that the words alone make, without any groups.

    Raises:
        VJEError: As :func:`readable`.
    """
    config = OmegaConf.create()
    for override in _parsed(readable(words)):
        OmegaConf.update(config, override.key_or_group, override.value())
    return config


def expanded(config: DictConfig) -> DictConfig:
    """The configuration with ~ replaced by the home folder in paths, also those of files."""
    config = config.copy()
    for key in PATHS:
        path = OmegaConf.select(config, key, throw_on_missing=False)
        if isinstance(path, str) and path.startswith("~"):
            OmegaConf.update(config, key, os.path.expanduser(path))
    return config


def _is_option(words: Sequence[str], i: int) -> bool:
    """Hydra's own options, and the values of those that take one."""
    taking = {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package",
              "-p", "--cfg", "-c", "--info", "-i", "--experimental-rerun"}  # fmt: skip
    return words[i].startswith("-") or (i > 0 and words[i - 1] in taking)


def _readable(word: str, sweep: bool) -> str:
    path = _PATH.fullmatch(word)
    if path is not None:
        return f"{path[1]}={_quoted_paths(path[2], sweep)}"
    override = _parse(word)
    if override is None:
        raise VJEError(f"{word} cannot be read{_way_out(word)}")
    if override.is_sweep_override() and not sweep:
        raise VJEError(
            f"{word} is a choice for a sweep, which needs -m{_way_out(word)}; write a list as "
            f"{shlex.quote(word.replace('=', '=[', 1) + ']')}"
        )
    return word


def _quoted_paths(value: str, sweep: bool) -> str:
    if value in ("", "null", "???"):
        return value
    override = _parse(f"key={value}")
    if override is not None and isinstance(override._value, QuotedString):
        return _quoted(override._value.text)
    if not sweep:
        return _quoted(value)
    if value.startswith(_PATTERN) and override is not None:
        return value
    return ",".join(map(_quoted, value.split(",")))


def _quoted(path: str, quote: Quote = Quote.single) -> str:
    return str(QuotedString(os.path.expanduser(path), quote).with_quotes())


def _way_out(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals or _parse(f"{key}=0") is None:
        return ": overrides are written key=value"
    text = QuotedString(value, Quote.double).with_quotes()
    return f": quote a text as {key}={shlex.quote(text)}"


def _parsed(words: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(words))


def _parse(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
