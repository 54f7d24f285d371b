"""Objects from configurations: every component is named by its ``_target_``.

A configuration that the user wrote may name anything; :func:`checked` decides what of one that was
read from a file may become an object (docs/explanation/security.md).
"""

import inspect
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vje_pyro.errors import CheckpointError, VJEError

TRUST = "VJE_TRUST"
"""Environment variable with packages that the user vouches for, separated by commas."""

_OWN = "vje_pyro"
_TARGET, _PARTIAL = "_target_", "_partial_"
_KEYS = (_TARGET, _PARTIAL, "_args_", "_recursive_", "_convert_")
_MAX_DEPTH = 32
"""How deep groups and lists may be nested; configurations have less than ten levels."""

_RENAMED = {
    "vje_pyro.training.monitors.no_monitor": "vje_pyro.training.monitors.NoMonitor",
    "vje_pyro.data.webdatasets.WebDataset": "vje_pyro.data.WebDataset",
    "vje_pyro.training.optim.WarmupCosine": "vje_pyro.training.schedule.WarmupCosine",
}
"""Components that older runs name otherwise."""

_UNUSED = {"vje_pyro.data.WebDataset": ("streams", "shuffle_buffer")}
"""Arguments of components in older runs, without an effect on what is made of these."""

_MADE = {"vje_pyro.data.OneClass"}
"""Components that no group names: ``vje one-class`` puts this one around a data set."""

_OFF = {"download": False, "pretrained": False, "checkpoint_path": ""}
"""Arguments by which a component fetches or reads what the run does not need, and what is taken
instead: the weights come from the run's checkpoint, and a download is asked for by the user."""


def build(config: Any, **arguments: Any) -> Any:
    """Instantiate a configuration that the user wrote, or that :func:`checked` returned.

    Raises:
        VJEError: If a component cannot be made; the message is the component's own.
    """
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, VJEError):
            raise cause from None
        raise VJEError(str(cause or error)) from error


@cache
def components() -> frozenset[str]:
    """Names of the classes that any run may name: ``experiments/conf``'s and torch's optimisers."""
    named = re.compile(r"^\s*_target_:\s*(\S+)", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for path in _conf().glob("*/**/*.yaml"))
    optimizers = {
        f"torch.optim.{name}"
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }
    return frozenset({n for t in texts for n in named.findall(t)} | optimizers | _MADE)


def trusted_packages(given: Iterable[str] = ()) -> tuple[str, ...]:
    """Packages that the user vouches for.

    Args:
        given: Packages of the command line or of the caller. Those of the environment variable
            ``VJE_TRUST`` and of the line ``trust`` in ``experiments/conf/train.yaml`` are added.

    Raises:
        VJEError: If one is not the name of a package.
    """
    words = [given] if isinstance(given, str) else list(given)
    words += [word.strip() for word in os.environ.get(TRUST, "").split(",") if word.strip()]
    packages = tuple(dict.fromkeys([*words, *_own_line()]))
    for package in packages:
        if not (isinstance(package, str) and _is_dotted(package)):
            raise VJEError(f"trust={package!r} is not the name of a package, such as my_package.")
    return packages


def checked(config: Any, trust: Iterable[str] = (), replaced: Collection[str] = ()) -> Any:
    """A configuration that was read from a file, as plain data that :func:`build` may be given.

    One walk decides, before anything is imported or made. A ``_target_`` may be one of
    :func:`components`, or a class that a trusted package itself defines. Interpolations, positional
    arguments and the other keys that Hydra gives a meaning to are refused, and so are URLs, each of
    which opens a connection. ``download`` and ``pretrained`` become false.

    Args:
        config: Plain data, as JSON has them.
        trust: See :func:`trusted_packages`.
        replaced: Keys, with dots, that the caller sets to the user's own words afterwards; what the
            file has there is not looked at, and comes out as None.

    Raises:
        CheckpointError: If it holds anything else; the message names the key.
        VJEError: If ``trust`` is not made of names of packages.
    """
    if type(config) is not dict:
        _refuse("config", f"is a {type(config).__name__} and not a group of keys")
    return _Walk(trusted_packages(trust), frozenset(replaced)).value(config, "", 0, False)


@dataclass(frozen=True)
class _Walk:
    """Goes through a configuration once; each method gives the part as it may be used."""

    packages: tuple[str, ...]
    replaced: frozenset[str]

    def value(self, value: Any, where: str, depth: int, inside: bool) -> Any:
        """Anything; ``inside`` tells whether it belongs to a component."""
        if where in self.replaced:
            return None
        if depth > _MAX_DEPTH:
            _refuse(where, f"is nested deeper than {_MAX_DEPTH} levels")
        if type(value) is dict:
            return self.group(value, where, depth, inside)
        if type(value) is list:
            parts = enumerate(value)
            return [self.value(v, f"{where}[{i}]", depth + 1, inside) for i, v in parts]
        if type(value) is str:
            return self.text(value, where, inside)
        if value is not None and type(value) not in (bool, int, float):
            _refuse(where, f"is a {type(value).__name__} and not plain data")
        return value

    def group(self, group: dict[Any, Any], where: str, depth: int, inside: bool) -> dict[str, Any]:
        prefix = f"{where}." if where else ""
        component = {key: group[key] for key in (_TARGET, _PARTIAL) if key in group}
        if _TARGET in component:
            component[_TARGET] = self.target(group[_TARGET], f"{prefix}{_TARGET}")
        if type(group.get(_PARTIAL, False)) is not bool or list(component) == [_PARTIAL]:
            _refuse(f"{prefix}{_PARTIAL}", "must be true or false, and needs a _target_ beside it")
        for key in group:
            if type(key) is not str or "${" in key or (key[:1] == "_" and key not in component):
                _refuse(where, f"has the key {str(key)[:80]!r}, which no component takes")
        inside = inside or bool(component)
        values = {
            key: self.value(value, f"{prefix}{key}", depth + 1, inside)
            for key, value in group.items()
            if key not in component and key not in _UNUSED.get(component.get(_TARGET, ""), ())
        }
        off = {k: v for k, v in _OFF.items() if inside and f"{prefix}{k}" not in self.replaced}
        return component | values | {key: off[key] for key in values if key in off}

    def text(self, text: str, where: str, inside: bool) -> str:
        if "${" in text:
            _refuse(where, f"is {text[:80]!r}, an interpolation")
        if text in _KEYS:
            _refuse(where, f"is {text!r}, a key of a component in the place of a value")
        if inside and text == "???":
            _refuse(where, "is not set")
        if inside and _has_scheme(text):
            _refuse(
                where,
                f"is {text[:80]!r}, a URL, which opens a connection: only the command line may "
                f"name one. Give the place of the data again with --data-root (vje train resume=…: "
                f"data.root=…)",
            )
        return text

    def target(self, name: Any, where: str) -> str:
        if type(name) is not str or not _is_dotted(name):
            _refuse(where, f"is {str(name)[:80]!r}, which is not the name of a class")
        name = _RENAMED.get(name, name)
        if name in components():
            return name
        own = name.startswith((f"{_OWN}.", "torch.optim."))
        if own and name in _definitions():
            return _definitions()[name]
        package = next((p for p in self.packages if name.startswith(f"{p}.")), None)
        if package is None or name.startswith(f"{_OWN}."):
            top = name.split(".")[0]
            advice = "" if top == _OWN else (
                f" If you know the package and trust the run, allow it: --trust {top} of any "
                f"command, {TRUST}={top} in the environment, or trust=({top!r},) of vje_pyro.load."
            )  # fmt: skip
            raise CheckpointError(
                f"the run's configuration names {name!r}, which is outside of the components of "
                f"vje-pyro and of the trusted packages {self.packages} ({_shown(where)}).{advice}"
            )
        _require_class(name, package, where)
        return name


def _refuse(where: str, what: str) -> NoReturn:
    raise CheckpointError(f"the run's configuration is refused: {_shown(where)} {what}.")


def _shown(where: str) -> str:
    """A key for a terminal, which a stranger may have chosen."""
    return "".join(c if c.isprintable() else "?" for c in where[:200]) or "config"


def _require_class(name: str, package: str, where: str) -> None:
    """Refuse what is no class of the package itself: ``mine.os.system`` is not."""
    try:
        found = resolve_name(name)
    except Exception as error:  # what importing the package can raise
        raise CheckpointError(
            f"the run's configuration names {name!r} ({_shown(where)}), which cannot be "
            f"found ({error}): was it written by another version of {package}?"
        ) from error
    home = str(getattr(found, "__module__", ""))
    if not inspect.isclass(found) or not f"{home}.".startswith(f"{package}."):
        _refuse(where, f"is {name!r}, which is not a class that {package} itself defines")


@cache
def _definitions() -> dict[str, str]:
    """Components by the modules that define them: a user may have named them so."""
    classes = {name: resolve_name(name) for name in components()}
    return {f"{c.__module__}.{c.__qualname__}": name for name, c in classes.items()}


def _has_scheme(text: str) -> bool:
    """Whether a text may stand for a URL, after braces in it are expanded."""
    # "::" joins patterns of shards; the drive of a Windows path is no scheme.
    return any(":" in re.sub(r"^[A-Za-z]:(?=[\\/])", "", part) for part in text.split("::"))


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _conf() -> Path:
    """The folder of the configuration groups; the package around it is not imported."""
    spec = find_spec("vje_pyro.experiments")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "conf"


@cache
def _own_line() -> tuple[str, ...]:
    """``trust`` of the user's own ``train.yaml``."""
    return tuple(OmegaConf.select(OmegaConf.load(_conf() / "train.yaml"), "trust") or ())
