"""What is imported when, and that the rooms of the house import downwards."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "arviz", "pyro", "pandas",
         "pytorch_lightning", "wandb", "mlflow", "tensorboard", "optuna", "submitit")  # fmt: skip


def imported(code):
    """Which of the heavy packages a process has imported at its end."""
    told = f"import sys\n{code}\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def command(*words):
    """Code that runs ``vje WORDS`` and goes on after its exit."""
    return (
        f"import contextlib, io; sys.argv = ['vje', *{words!r}]; from vje_pyro import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):\n"
        "    cli.main()"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("evaluate", "--help"),
        ("train", "--help"),
        ("trian",),
        ("evaluate", "/nowhere"),
        ("compare", "out", "--sedes", "0"),
        ("train", "training.epoch=3"),
        ("train", "resume=/nowhere"),
        ("one-class", "classes=[a]"),
    ],
)
def test_help_and_errors_of_usage_import_nothing_heavy(words):
    assert imported(command(*words)) == set()


def test_the_package_and_a_run_import_what_they_use():
    assert imported("import vje_pyro") == set()
    assert imported("import vje_pyro; vje_pyro.load; import vje_pyro.models") == {"torch", "pyro"}


ROOT = Path(__file__).parents[1]
TOP = ("models", "guides", "experiments", "benchmarks", "studies")
"""Rooms beside ``vje_pyro``; the first three are links inside it."""


def floors():
    """Room → floor, as CONTRIBUTING draws the house."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.split("## The house\n")[1].split("\n## ")[0]
    drawn = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^$)", text, re.MULTILINE | re.DOTALL)
    return {room: int(n) for n, line in drawn for room in re.findall(r"`(\w+)`", line)}


def arrows():
    """Every import from one room of another: file, room, imported room."""
    files = [p for top in ("vje_pyro", *TOP) for p in (ROOT / top).rglob("*.py")]
    for file in files:
        top, *rest = file.relative_to(ROOT).with_suffix("").parts
        room = top if top in TOP else rest[0]
        if (top == "vje_pyro" and room in TOP) or room.startswith("_"):
            continue  # a link, or the package itself, which offers the verbs
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            elif not isinstance(node, ast.Import):
                continue
            for name in names:
                first, *others = name.split(".")
                found = others[0] if first == "vje_pyro" and others else first
                if first in ("vje_pyro", *TOP) and not found.startswith("_") and found != room:
                    yield file.relative_to(ROOT).as_posix(), room, found


def test_the_house_is_as_contributing_draws_it():
    floor, found = floors(), set(arrows())
    assert len(found) > 300
    rooms = {room for _, *both in found for room in both} - {"vje_pyro"}
    assert rooms == set(floor)
    assert [arrow for arrow in found if floor[arrow[1]] <= floor.get(arrow[2], 0)] == []
