"""File operations of a block of code, one by one: to look at the disk, or to die, before each."""

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHANGES = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "truncate", "symlink", "link")


@contextmanager
def operations(root: Path, before: Callable[[str, Path], None]) -> Iterator[None]:
    """Call ``before(name, path)`` ahead of each operation of Python on a path under ``root``.

    These are opening (through ``open`` or ``os.open``), what changes directories, and ``fsync``,
    which is not done: a killed process loses nothing that the system has.
    """
    own, root = os.getpid(), Path(os.path.realpath(root))
    real_open, real_os_open, busy = io.open, os.open, []

    def announce(name: str, path: object) -> None:
        if busy or os.getpid() != own or not isinstance(path, str | bytes | os.PathLike | int):
            return
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        where = Path(os.path.abspath(os.fsdecode(path)))
        where = Path(os.path.realpath(where.parent)) / where.name
        if where == root or root in where.parents:
            busy.append(name)  # what the callback does itself is not an operation
            try:
                before(name, where)
            finally:
                busy.pop()

    def announced(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *arguments: object, **named: object) -> object:
            announce(name, path)
            return function(path, *arguments, **named)

        return call

    def opened(file: object, *arguments: object, **named: object) -> object:
        if not isinstance(file, int):
            announce("open", file)
        return real_open(file, *arguments, **named)

    kept = {name: getattr(os, name) for name in (*CHANGES, "fsync")}
    for name in CHANGES:
        setattr(os, name, announced(name, kept[name]))
    os.fsync = lambda descriptor: announce("fsync", descriptor)
    os.open = announced("os.open", real_os_open)
    builtins.open = io.open = opened
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(os, name, function)
        os.open = real_os_open
        builtins.open = io.open = real_open


def tear(name: str, path: Path) -> bool:
    """Leave half of a file that is being forced to the disk, or a part of a line at a log's end.

    Returns:
        Whether this operation is one that can be torn.
    """
    if name == "fsync" and path.is_file():
        os.truncate(path, path.stat().st_size // 2)
        return True
    if name == "os.open" and path.suffix == ".csv" and path.is_file():
        with open(path, "a") as file:
            file.write("7,0.")
        return True
    return False


def snapshots(root: Path, where: Path, function: Callable[[], object]) -> list[tuple[str, Path]]:
    """Run ``function``; copies of ``root`` as a kill before each of its operations leaves it.

    Args:
        root: The directory; it need not exist yet.
        where: Folder for the copies.
        function: What is run.

    Returns:
        The operation and the copy, for each; where it can be torn, there is a second one.
    """
    found: list[tuple[str, Path]] = []

    def copy(name: str, path: Path) -> None:
        for torn in (False, True):
            target = where / f"{len(found):03}"
            if root.exists():
                shutil.copytree(root, target, symlinks=True)
            else:
                target.mkdir(parents=True)
            if torn and not tear(name, target / path.relative_to(os.path.realpath(root))):
                shutil.rmtree(target)
                return
            found.append((f"{name} {path.name}{' torn' if torn else ''}", target))

    with operations(root, copy):
        function()
    return found
