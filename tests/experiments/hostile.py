"""Hostile configurations of runs, and a watch over what reading them does."""

import copy
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FUNCTIONS = (
    "os.system", "os.popen", "os.remove", "os.execv", "subprocess.run", "subprocess.Popen",
    "builtins.eval", "builtins.exec", "builtins.open", "builtins.__import__", "pathlib.Path",
    "pickle.loads", "pickle.load", "joblib.load", "torch.load", "numpy.load", "marshal.loads",
    "shutil.rmtree", "importlib.import_module", "runpy.run_path", "code.interact", "yaml.load",
    "socket.create_connection", "urllib.request.urlopen", "webbrowser.open", "pandas.read_pickle",
    "hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method", "hydra.main",
    "omegaconf.OmegaConf.register_new_resolver", "functools.partial", "types.FunctionType",
    "torch.hub.load", "torch.utils.cpp_extension.load", "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.Adam.__init__.__globals__", "torch.optim.sys.modules", "torch.nn.Linear",
    "pyro.param", "timm.create_model", "torchvision.datasets.utils.download_url", "antigravity",
)  # fmt: skip
"""What a stranger may want to be called, from anywhere."""

OWN = (
    "vje_pyro.building.build", "vje_pyro.building.checked", "vje_pyro.building.build_trusted",
    "vje_pyro.building.instantiate", "vje_pyro.building.resolve_name",
    "vje_pyro.building.os.system",
    "vje_pyro.run.load", "vje_pyro.run.Representation", "vje_pyro.load", "vje_pyro.cli.main",
    "vje_pyro.run.np.load", "vje_pyro.run.torch.load", "vje_pyro.atomic.write_atomic",
    "vje_pyro.training.logs.RunLogs", "vje_pyro.training.logs.CsvLog",
    "vje_pyro.training.loop.Trainer", "vje_pyro.training.run_dir.RunDir",
    "vje_pyro.training.checkpoint.save_checkpoint", "vje_pyro.training.run_json.write_run_json",
    "vje_pyro.training.monitors.Monitor.__init__", "vje_pyro.training.monitors.rankme",
    "vje_pyro.experiments.report.main", "vje_pyro.experiments.train.main",
    "vje_pyro.verbs.pretrain.resume", "vje_pyro.experiments.demo.main",
    "vje_pyro.report.write_report", "vje_pyro.data.shards.read_all", "vje_pyro.data.shards.Shard",
    "vje_pyro.data.shards.os.system", "vje_pyro.data.ShardIndex", "vje_pyro.data.load_images",
    "vje_pyro.data.pack_folder", "vje_pyro.data.ResidentLoader", "vje_pyro.data.index_shards",
    "vje_pyro.diagnostics.save_netcdf", "vje_pyro.provenance.subprocess.run",
    "vje_pyro.provenance.commit_of", "vje_pyro", "vje_pyro.models", "vje_pyro.models.vje",
    "vje_pyro.models.VJE.loss", "vje_pyro.models.VJE.__class__", "vje_pyro.__main__",
    "vje_pyrox.evil", "models.VJE", "experiments.pretrain.main",
)  # fmt: skip
"""What is inside of vje_pyro, or looks so, and is no component."""

OF_TRUSTED = (
    "mine", "mine.function", "mine.os.system", "mine.system", "mine.Popen", "mine.partial",
    "mine.RunLogs", "mine.build", "mine.instance", "mine.Own.method", "mine.Own.__init__",
    "mine.Own.__class__", "mine.Own.__base__", "mine.sub", "mine.sub.function", "mine.Absent",
    "mine..Own", "mine.Own.", "minestrone.Own", "other.mine.Own",
)  # fmt: skip
"""What the trusted package ``mine`` has, beside the class ``mine.Own``, which may be named."""

ODD_NAMES = (
    "", ".", "vje_pyro.models.VJE ", " vje_pyro.models.VJE", "vje_pyro.models.VJE\n",
    "vje_pyro.models.VJE()", "vje_pyro/models/VJE", "vje_pyro.models:VJE", "__import__('os')",
    "vje_pyro..models.VJE", "VJE_PYRO.models.VJE", "vje_pyro.models.VJE\0", "os\u002esystem",
    "${oc.env:HOME}", "???", 1, 1.5, True, None, [], ["os.system"], {"_target_": "os.system"}, {},
)  # fmt: skip

INTERPOLATIONS = (
    "${oc.env:HOME}", "${oc.env:SECRET,none}", "${oc.decode:os}", "${method}", "${..}", "${now:%Y}",
    "${evil:1}", "a ${oc.env:PATH} b", "\\${oc.env:HOME}", "${oc.create:{a: 1}}", "${", "${}",
    "${hydra:runtime.cwd}", "${oc.select:method}", "${oc.dict.values:method}",
)  # fmt: skip

URLS = (
    "pipe:touch executed", "pipe:::touch executed", "gs://bucket/a.tar",
    "https://localhost:1/a", "http{s,}://localhost/a", "{pipe,x}:touch executed", "hf://a/b",
    "a.tar::pipe:touch executed", "s3://a", "ais://a", "file:///etc/passwd", "PIPE:touch executed",
    "scp://a/b", "{a,pipe:touch executed}", "hf-hub:timm/resnet18", "ftp://a",
)  # fmt: skip

PACKAGE = """
import os
from functools import partial
from os import system
from subprocess import Popen
from vje_pyro.building import build
from vje_pyro.training.logs import RunLogs

def function(*_, **__):
    open(os.environ["HOSTILE_MARK"], "w")

class Own:
    def __init__(self, *_, **__): pass
    def method(self): pass

instance = Own()
"""
"""The package ``mine``; opening a run must not call its functions."""


def write_package(folder: Path) -> None:
    """Write the packages ``mine`` and ``mine.sub`` below a folder."""
    for name, text in (("mine", PACKAGE), ("mine/sub", PACKAGE)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text(text)


def hostile(config: dict[str, Any], rng: random.Random, plain: bool = True) -> dict[str, Any]:
    """A configuration with one part, at a random place, that a run must not have.

    Args:
        config: One that is right; left as it is.
        rng: Source of the choices.
        plain: Only what JSON can hold.
    """
    changed = copy.deepcopy(config)
    groups = [node for node in _nodes(changed) if isinstance(node, dict) and node]
    parts = [node for node in groups if "_target_" in node]
    kind = rng.choice(KINDS if plain else (*KINDS, _odd_object))
    kind(rng, groups, parts)
    return changed


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _nodes(child)


def _name(rng: random.Random) -> Any:
    return rng.choice(rng.choice((FUNCTIONS, OWN, OF_TRUSTED)))


def _call(rng: random.Random) -> dict[str, Any]:
    """A node that names what it must not, perhaps with an inner call that brings its own trust."""
    node: dict[str, Any] = {"_target_": _name(rng)}
    node |= rng.choice(
        (
            {},
            {"_args_": ["touch executed"]},
            {"filename": "executed"},
            {"args": ["touch", "executed"]},
            {"config": {"_target_": "os.system"}, "trust": ["os", "subprocess", "joblib"]},
            {"config": [["_target_", "joblib.load"], ["filename", "x.pkl"]], "trust": "joblib"},
            {"_partial_": True},
            {"_recursive_": False, "config": {"_target_": _name(rng)}},
        )
    )
    return node


def _set(rng: random.Random, groups: list[dict[str, Any]], value: Any) -> None:
    group = rng.choice(groups)
    key = rng.choice([*(k for k in group if k != "_target_"), "extra"])
    group[key] = value


def _new_target(rng: random.Random, groups: Any, parts: Any) -> None:
    rng.choice(parts)["_target_"] = _name(rng)


def _odd_target(rng: random.Random, groups: Any, parts: Any) -> None:
    rng.choice(parts)["_target_"] = copy.deepcopy(rng.choice(ODD_NAMES))


def _inserted_call(rng: random.Random, groups: Any, parts: Any) -> None:
    value: Any = _call(rng)
    for _ in range(rng.randrange(4)):
        value = rng.choice(([value], {"a": value}, [[1, {"b": value}]], {"x": [{}, value]}))
    _set(rng, groups, value)


def _pairs(rng: random.Random, groups: Any, parts: Any) -> None:
    pairs = [["_target_", _name(rng)], ["filename", "executed"]]
    _set(rng, groups, rng.choice((pairs, [pairs], {"config": pairs}, [{"a": pairs[0]}])))


def _interpolation(rng: random.Random, groups: Any, parts: Any) -> None:
    text = rng.choice(INTERPOLATIONS)
    if rng.random() < 0.2:
        rng.choice(groups)[text] = 1
    else:
        _set(rng, groups, rng.choice((text, [text], {"a": [text]})))


def _reserved_key(rng: random.Random, groups: Any, parts: Any) -> None:
    key, value = rng.choice(
        (
            ("_args_", []), ("_args_", [{"_target_": "os.system"}]), ("_recursive_", False),
            ("_recursive_", True), ("_convert_", "all"), ("_convert_", "object"),
            ("_partial_", "yes"), ("_partial_", 1), ("_partial_", None), ("_partial_", [True]),
            ("_partial_", {"_target_": "os.system"}), ("_self_", 1), ("__class__", "os"),
            ("_target", "os.system"), ("_name_", "x"), ("__init__", {}),
        )
    )  # fmt: skip
    rng.choice(parts)[key] = value


def _url(rng: random.Random, groups: Any, parts: Any) -> None:
    url = rng.choice(URLS)
    if rng.random() < 0.5:
        rng.choice(parts)[rng.choice(("root", "pretrain", "index", "name"))] = url
    else:
        shards = {"_target_": "vje_pyro.data.WebDataset", "root": "a", "pretrain": "a.tar"}
        shards[rng.choice(("root", "pretrain", "train", "val", "test", "index"))] = url
        _set(rng, groups, rng.choice((shards, [shards], {"source": shards})))


def _nesting(rng: random.Random, groups: Any, parts: Any) -> None:
    value: Any = rng.choice((_call(rng), 1))
    for _ in range(rng.randrange(40, 300)):
        value = [value] if rng.random() < 0.5 else {"a": value}
    _set(rng, groups, value)


def _odd_object(rng: random.Random, groups: Any, parts: Any) -> None:
    class Text(str):
        pass

    class Group(dict):
        pass

    value = rng.choice(
        (
            object(), os.system, int, b"bytes", {1}, (1, 2), Text("a"), Group(a=1), 1j, ...,
            Group(_target_="os.system"), Path("a"), range(3), lambda: 1,
        )
    )  # fmt: skip
    if rng.random() < 0.3:
        rng.choice(groups)[rng.choice((1, None, True, 1.5, (1,), b"a", Text("_target_")))] = 1
    else:
        _set(rng, groups, rng.choice((value, [value], {"a": value})))


KINDS = (
    _new_target, _new_target, _odd_target, _inserted_call, _inserted_call, _pairs, _interpolation,
    _reserved_key, _url, _nesting,
)  # fmt: skip


class Watch:
    """What the interpreter was asked to do, by kind: ``executed``, ``written``, ``network``.

    Args:
        packages: Top-level packages that may be imported meanwhile; None lets all.
        folders: Folders in which files may be written.
    """

    _current: "Watch | None" = None
    _hooked = False

    def __init__(
        self, packages: frozenset[str] | None = frozenset(), folders: tuple[str, ...] = ()
    ) -> None:
        self.packages, self.folders = packages, folders
        self.seen: dict[str, list[str]] = {"executed": [], "written": [], "network": []}

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Note what happens in the block."""
        if not Watch._hooked:  # a hook cannot be taken away again
            sys.addaudithook(Watch._hook)
            Watch._hooked = True
        Watch._current = self
        try:
            yield self
        finally:
            Watch._current = None

    @staticmethod
    def _hook(event: str, arguments: tuple[Any, ...]) -> None:
        watch = Watch._current
        if watch is not None:
            watch._note(event, arguments)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EXECUTING:
            self.seen["executed"].append(f"{event} {arguments[:1]!r}"[:200])
        elif event == "import" and self.packages is not None:
            if str(arguments[0]).split(".")[0] not in self.packages:
                self.seen["executed"].append(f"import {arguments[0]}")
        elif event == "exec" and self.packages is not None:  # also of what import_module loads
            file = Path(getattr(arguments[0], "co_filename", "?"))
            if not self.packages & set(file.parts):
                self.seen["executed"].append(f"exec {file}")
        elif event == "open" and _writes(arguments) and not self._may_write(arguments[0]):
            self.seen["written"].append(str(arguments[0]))
        elif event in _WRITING and not self._may_write(arguments[0]):
            self.seen["written"].append(f"{event} {arguments[0]!r}")
        elif event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
            self.seen["network"].append(f"{event} {arguments[1:]!r}")

    def _may_write(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(self.folders or ("\0",))


_EXECUTING = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class",
    "os.startfile", "pty.spawn",
}  # fmt: skip
_WRITING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "shutil.rmtree"}


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if mode is not None:
        return any(letter in str(mode) for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
