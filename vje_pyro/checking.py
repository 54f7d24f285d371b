"""A configuration against what it configures, before anything is made of it.

Each node that names a component (``_target_``) is checked against the annotations of that
component's constructor, other groups against those of a ``TypedDict`` or a function, by pydantic,
strictly. What has no annotation is let pass.
"""

import difflib
import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vje_pyro.errors import VJEError, first_line

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_HYDRA = {"_partial_": bool, "_recursive_": bool, "_convert_": str, "_args_": list}
"""Keys of Hydra's own beside ``_target_``."""

_PHRASES = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a group of keys",
    "none_required": "must be null",
    "missing": "is too short",
    "too_short": "must have at least {min_length} entry",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}
"""What pydantic found, in words."""

_DATA = (int, float, str, bool, type(None), Path, Any, dict, list)
_COLLECTIONS = (list, tuple, dict, Sequence, Mapping)


@dataclass(frozen=True)
class Arguments:
    """Annotation of a group whose keys are arguments."""

    given: tuple[str, ...] = ()  # by the program: no keys
    of: Callable[..., Any] | None = None  # what takes them; what ``_target_`` names when None


Component = Annotated[Any, Arguments()]
"""Annotation of a group with a ``_target_``."""


@dataclass(frozen=True)
class _Keys:
    """The keys that a group may have: their annotations, and which there must be."""

    hints: Mapping[str, Any]
    required: frozenset[str]
    is_open: bool


def check_config(config: DictConfig, expected: Any, only: Sequence[str] | None = None) -> None:
    """Refuse a configuration with unknown keys, wrong types or values out of their range.

    Args:
        config: As composed.
        expected: A ``TypedDict`` with the groups.
        only: Keys, with dots, to look at; all when None.

    Raises:
        VJEError: A line for each key that is wrong: what was given and what is allowed.
    """
    try:
        problems = list(_Checker(only).group(config, _typed(expected), ""))
    except OmegaConfBaseException as error:  # of an interpolation
        raise VJEError(f"{error.full_key}: {first_line(error)}") from error
    if problems:
        first = {line.split("=")[0]: line for line in reversed(problems)}  # of each key
        raise VJEError("\n".join(reversed(first.values())))


def check_values(annotated: Any, values: Mapping[str, Any]) -> None:
    """Refuse values, by name, that are not what annotations say; those of other names are let pass.

    Raises:
        ValueError: The first that is wrong, and what is allowed.
    """
    for name, hint in get_type_hints(annotated, include_extras=True).items():
        data = _data_part(hint) if name in values else None
        if data is not None and (wrong := _wrong(values[name], data)):
            raise ValueError(f"{name}={_shown(values[name])}: {wrong}")


@dataclass(frozen=True)
class _Checker:
    """Finds what is wrong; each method gives a line for each such key."""

    only: Sequence[str] | None

    def group(self, node: DictConfig, keys: _Keys, path: str) -> Iterator[str]:
        absent = [f"{path}{key}" for key in sorted(keys.required - {str(key) for key in node})]
        if absent := list(filter(self._is_wanted, absent)):
            yield f"{', '.join(absent)} is missing: give {absent[0]}=…"
        for key in map(str, node):
            name = f"{path}{key}"
            hint = _HYDRA.get(key, keys.hints.get(key))
            if key == "_target_" or not self._is_wanted(name):
                continue
            if OmegaConf.is_missing(node, key):
                yield f"{name} is not set: give {name}=…"
            elif hint is not None:
                if not _refers_to_group(node, key):
                    yield from self._value(node[key], hint, _typed_at(node, key, name))
            elif not keys.is_open:
                there_is = _nearest(key, path, keys)
                yield from (
                    f"{leaf}: there is no key {name}; {there_is}"
                    for leaf in _leaves(node[key], name)
                )

    def _value(self, value: Any, hint: Any, name: str) -> Iterator[str]:
        data, arguments = _data_part(hint), _arguments(hint)
        if is_typeddict(hint) and isinstance(value, DictConfig):
            yield from self.group(value, _typed(hint), f"{name}.")
        elif arguments is not None and arguments.of is not None and isinstance(value, DictConfig):
            yield from self.group(value, _parameters(arguments.of, arguments.given), f"{name}.")
        elif arguments is not None and _is_component(value):
            yield from self._component(value, arguments.given, name)
        elif data is None:
            kind = (
                "a group of keys" if is_typeddict(hint) else "a component, a group with a _target_"
            )
            yield f"{name}={_shown(value)}: must be {kind}"
        elif wrong := _wrong(value, data):
            also = " or a component with its _target_" if data is type(None) else ""
            yield f"{name}={_shown(value)}: {wrong}{also}"

    def _component(self, node: DictConfig, given: tuple[str, ...], name: str) -> Iterator[str]:
        target = node["_target_"]
        try:
            constructor = target if callable(target) else resolve_name(str(target))
            if not callable(constructor):
                raise TypeError("it is not a class or function")
        except Exception as error:  # what importing a module can raise
            yield f"{name}._target_={_shown(target)}: cannot be used ({first_line(error)})"
            return
        keys = _parameters(constructor, given)
        is_partial = "_partial_" in _raw(node) and _raw(node)["_partial_"] is not False
        if is_partial or "_args_" in node:
            keys = _Keys(keys.hints, frozenset(), keys.is_open)
        yield from self.group(node, keys, f"{name}.")

    def _is_wanted(self, name: str) -> bool:
        """Whether a key, or one above or below it, is to be looked at."""
        pairs = ((f"{name}.", f"{key}.") for key in self.only or ())
        return self.only is None or any(a.startswith(b) or b.startswith(a) for a, b in pairs)


def _is_component(value: Any) -> bool:
    return isinstance(value, DictConfig) and value.get("_target_") is not None


def _refers_to_group(node: DictConfig, key: Any) -> bool:
    """Whether a key only refers to a group, which is checked where it stands."""
    return OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig)


def _typed_at(node: DictConfig, key: str, name: str) -> str:
    """The key that a value stands at, where this one only refers to it."""
    reference = re.fullmatch(r"\$\{([\w.]+)\}", str(_raw(node)[key]))
    return reference[1] if reference else name


def _raw(node: DictConfig) -> dict[Any, Any]:
    raw = OmegaConf.to_container(node)
    assert isinstance(raw, dict)
    return raw


def _typed(expected: Any) -> _Keys:
    hints = get_type_hints(expected, include_extras=True)
    bare = {k: get_args(h)[0] if get_origin(h) is NotRequired else h for k, h in hints.items()}
    return _Keys(bare, frozenset(expected.__required_keys__), is_open=False)


@lru_cache(maxsize=256)
def _parameters(function: Any, given: tuple[str, ...]) -> _Keys:
    """What a class or function takes beside what it is given."""
    try:
        parameters = inspect.signature(function).parameters
        annotated = function.__init__ if inspect.isclass(function) else function
        hints = get_type_hints(annotated, include_extras=True)
    except Exception:  # it has no signature, or annotations that cannot be resolved
        return _Keys({}, frozenset(), is_open=True)
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in given
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    return _Keys(
        {name: hints.get(name, Any) for name in named},
        frozenset(name for name, p in named.items() if p.default is p.empty),
        is_open=any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
    )


# ------------------------------------------------------------------------------- annotations


def _arguments(hint: Any) -> Arguments | None:
    """How a group is to be read that an annotation admits; None if it admits none."""
    if hint is Any:
        return Arguments()
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = [m for m in hint.__metadata__ if isinstance(m, Arguments)]
        return found[-1] if found else _arguments(args[0])
    if origin in (Union, types.UnionType):
        return next(filter(None, map(_arguments, args)), None)
    return Arguments() if _data_part(hint) is None else None


def _data_part(hint: Any) -> Any:
    """The part of an annotation that numbers, texts and lists of them can have; None if none."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _DATA or origin is Literal:
        return hint
    if origin is Annotated:
        data = None if _is_component_hint(hint) else _data_part(args[0])
        return None if data is None else Annotated[data, *hint.__metadata__]
    if origin in (Union, types.UnionType):
        parts = [part for part in map(_data_part, args) if part is not None]
        return Union[tuple(parts)] if parts else None  # noqa: UP007
    if origin in _COLLECTIONS:
        parts = [arg if arg is ... else _data_part(arg) for arg in args]
        return None if None in parts else origin[tuple(parts)]
    return None


def _is_component_hint(hint: Any) -> bool:
    return any(isinstance(m, Arguments) for m in hint.__metadata__)


# ------------------------------------------------------------------------------------ values


def _wrong(value: Any, data: Any) -> str:
    """What is wrong with a value, in words; empty where nothing is."""
    plain = _plain(value)
    try:
        _adapter(data).validate_json(json.dumps(plain, default=str))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # Of a list's entries, where it is the right type: not that a number was possible too.
        inside = [e for e in errors if any(isinstance(part, int) for part in e["loc"])]
        first, *others = dict.fromkeys(_phrase(e, plain) for e in inside or errors)
        return " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    return ""


@lru_cache(maxsize=256)
def _adapter(data: Any) -> TypeAdapter[Any]:
    return TypeAdapter(data, config=_STRICT)


def _phrase(error: Any, value: Any) -> str:
    phrase = _PHRASES.get(error["type"], error["msg"].replace("Input should be", "must be"))
    phrase, found = phrase.format_map(_bounds(error)), _shown(error["input"])
    if phrase == "must be text" and isinstance(error["input"], int | float):
        phrase += f""", in quotes of its own: "'{found}'\""""
    return phrase if found == _shown(value) else f"{found} {phrase}"


def _bounds(error: Any) -> dict[str, Any]:
    """What a phrase says of the annotation; 1 for 1.0."""
    bounds = error.get("ctx", {}).items()
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in bounds}


def _plain(value: Any) -> Any:
    """Without OmegaConf."""
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True)
    return value


def _leaves(value: Any, name: str) -> Iterator[str]:
    """``key=value`` of everything in a group, or of a value."""
    if isinstance(value, DictConfig) and value:
        for key in map(str, value):
            yield from _leaves(value[key], f"{name}.{key}")
    else:
        yield f"{name}={_shown(value)}"


def _shown(value: Any) -> str:
    """A value as the command line takes it, cut where it is long."""
    plain = _plain(value)
    if isinstance(plain, str) and plain.isidentifier():
        text = str(plain)
    elif isinstance(plain, float):
        text = repr(plain)
    else:
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _nearest(key: Any, path: str, keys: _Keys) -> str:
    near = difflib.get_close_matches(str(key), keys.hints, n=1)
    if near:
        return f"did you mean {path}{near[0]}?"
    return f"there are {', '.join(path + name for name in keys.hints) or 'none'}"
