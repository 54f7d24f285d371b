"""A configuration against the annotations of what it configures."""

import sys
import types
from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pytest
from annotated_types import MinLen
from omegaconf import OmegaConf
from torch import Tensor, nn

from vje_pyro.checking import Arguments, Component, check_config
from vje_pyro.errors import VJEError
from vje_pyro.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Probability


class Net(nn.Module):
    def __init__(
        self,
        widths: Annotated[Sequence[PositiveInt], MinLen(1)] = (1,),
        share: Probability | Sequence[Probability] = 0.0,
        scale: Tensor | PositiveFloat = 1.0,
        pair: tuple[float, float] = (0.0, 1.0),
        inner: nn.Module | None = None,
        anything=None,
        text: str = "",
    ) -> None:
        super().__init__()


class Needy:
    def __init__(self, wanted: int) -> None: ...


class Open:
    def __init__(self, **more: Any) -> None: ...


class Unresolved:
    def __init__(self, value: "NowhereDefined") -> None: ...  # noqa: F821


def loop(epochs: PositiveInt, *, rate: NonNegativeFloat | None = None, seed: int = 0) -> None: ...


class Schema(TypedDict):
    net: Component
    views: NotRequired[Annotated[Component, Arguments(given=("wanted",))]]
    loop: NotRequired[Annotated[dict, Arguments(of=loop, given=("seed",))]]


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    module = types.ModuleType("users_own")
    for thing in (Net, Needy, Open, Unresolved):
        setattr(module, thing.__name__, thing)
    module.number = 3
    monkeypatch.setitem(sys.modules, "users_own", module)


def refusal(config, only=None):
    try:
        check_config(OmegaConf.create(config), Schema, only)
    except VJEError as error:
        return str(error)
    return None


def of_net(**arguments):
    return {"net": {"_target_": "users_own.Net", **arguments}}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"widths": [3, 2], "share": 1, "scale": 2, "pair": [0, 1]},
        {"share": [0, 0.5], "inner": None, "anything": {"a": [1]}},
        {"inner": {"_target_": "users_own.Net", "widths": [1]}, "_partial_": True},
        {"anything": {"_target_": "users_own.Open", "x": 1}},
        {"anything": {"_target_": "users_own.Unresolved", "value": "x"}},
    ],
)
def test_what_fits_passes(arguments):
    assert refusal(of_net(**arguments)) is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"widths": []}, "net.widths=[]: must have at least 1 entry"),
        ({"widths": [3, 0]}, "net.widths=[3,0]: 0 must be at least 1"),
        ({"widths": [True]}, "net.widths=[true]: true must be a whole number"),
        ({"widths": "abc"}, "net.widths=abc: must be a list"),
        ({"widths": [10**12]}, "1000000000000 must be at most 2147483647"),
        ({"share": 1.5}, "net.share=1.5: must be at most 1 or a list"),
        ({"share": [0, "x"]}, 'net.share=[0,"x"]: x must be a number'),
        ({"share": "0.5"}, 'net.share="0.5": must be a number or a list'),
        ({"scale": 0}, "net.scale=0: must be above 0"),
        ({"scale": True}, "net.scale=true: must be a number"),
        ({"scale": float("nan")}, "net.scale=nan: must be finite"),
        ({"scale": float("inf")}, "net.scale=inf: must be finite"),
        ({"scale": None}, "net.scale=null: must be a number"),
        ({"scale": {"a": 1}}, 'net.scale={"a":1}: must be a number'),
        ({"pair": [0]}, "net.pair=[0]: is too short"),
        ({"text": 2024}, """net.text=2024: must be text, in quotes of its own: "'2024'\""""),
        ({"text": None}, "net.text=null: must be text"),
        ({"inner": 3}, "net.inner=3: must be null or a component"),
        ({"inner": {"_target_": "users_own.Net", "scale": 0}}, "net.inner.scale=0: must be above"),
        ({"width": [1]}, "net.width=[1]: there is no key net.width; did you mean net.widths?"),
        ({"zzz": {"a": {"b": 1}}}, "net.zzz.a.b=1: there is no key net.zzz; there are net.widths,"),
        ({"_partial_": 1}, "net._partial_=1: must be true or false"),
        ({"text": "???"}, "net.text is not set: give net.text=…"),
    ],
)
def test_what_does_not_fit_is_one_line_with_key_value_and_rule(arguments, line):
    message = refusal(of_net(**arguments))
    assert line in message
    assert message.startswith("net.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({}, "net is missing: give net=…"),
        ({"net": 3}, "net=3: must be a component"),
        ({"net": {"widths": [1]}}, "must be a component"),
        ({"net": {"_target_": "users_own.Nothing"}}, 'net._target_="users_own.Nothing": cannot be'),
        ({"net": {"_target_": "users_own.number"}}, "it is not a class or function"),
        ({"net": {"_target_": 5}}, "net._target_=5: cannot be used"),
        ({"net": {"_target_": "users_own.Needy"}}, "net.wanted is missing"),
        ({"views": {"_target_": "users_own.Needy", "wanted": 3}}, "there is no key views.wanted"),
        ({"loop": {}}, "loop.epochs is missing"),
        ({"loop": {"epochs": 1, "seed": 2}}, "loop.seed=2: there is no key loop.seed"),
        ({"loop": 3}, "loop=3: must be"),
        ({"loop": {"epochs": 1, "rate": "${nowhere}"}}, "loop.rate: Interpolation key 'nowhere'"),
        ({"more": {"x": 1}}, "more.x=1: there is no key more; there are net, views, loop"),
    ],
)
def test_groups_and_components(config, line):
    assert line in refusal({**of_net(), **config} if config else {})


def test_what_is_given_otherwise_need_not_be_there():
    given = {"views": {"_target_": "users_own.Needy"}, "loop": {"epochs": 3}}
    assert refusal(of_net() | given) is None
    partial = {"_target_": "users_own.Needy", "_partial_": True}
    assert refusal({"net": partial}) is None


def test_every_wrong_key_has_its_line_and_a_shared_group_is_named_once():
    config = of_net(scale=0, text=1) | {"views": {"_target_": "users_own.Open", "net": "${net}"}}
    assert [line.split("=")[0] for line in refusal(config).split("\n")] == ["net.scale", "net.text"]


def test_only_some_keys_can_be_looked_at():
    config = of_net(scale=0, text=1, unknown=2)
    assert refusal(config, only=["net.text"]).startswith("net.text=1")
    assert refusal(config, only=["net"]).count("\n") == 2
    assert refusal(config, only=["net.pair", "views"]) is None
