"""What is in a folder: its images, and what was passed over."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vje_pyro.data.decoding import image_suffixes, printable
from vje_pyro.errors import DataError

logger = logging.getLogger(__name__)

SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "~snapshot"}
    | {"$recycle.bin", "recycler", "system volume information", "lost+found", "found.000"}
    | {"__macosx", "network trash folder", "temporary items", "__pycache__"}
)
"""Folders (in lower case) that file servers, operating systems and archives add."""


@dataclass
class Found:
    """What a search of a folder found."""

    root: str
    names: list[str] = field(default_factory=list)  # image files relative to it, sorted
    others: Counter[str] = field(default_factory=Counter)  # files that are no images, by suffix
    hidden: int = 0  # files whose names begin with a dot
    system_folders: int = 0  # of SYSTEM_FOLDERS, or names that begin with a dot
    repeated: int = 0  # links to folders that were searched already
    unreadable: dict[str, str] = field(default_factory=dict)  # folders, and why

    def images(self) -> list[str]:
        """The names; :class:`DataError` if there is none."""
        if not self.names:
            over = self.passed_over()
            raise DataError(
                f"no image in {printable(os.path.abspath(self.root))}"
                f"{f' (passed over: {over})' if over else ''}: looked for files that end in "
                f"{' '.join(sorted(image_suffixes()))}"
            )
        return self.names

    def passed_over(self) -> str:
        """What was passed over, in words; empty where that is nothing."""
        kinds = ", ".join(f"{suffix} {n}" for suffix, n in self.others.most_common(8))
        parts = {
            f"files ({kinds})": self.others.total(),
            "hidden files": self.hidden,
            "system folders": self.system_folders,
            "links to folders searched already": self.repeated,
            "unreadable folders": len(self.unreadable),
        }
        return ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def search_folder(folder: str | Path, max_corrupt: int | None = None) -> Found:
    """Search a folder and its subfolders for images, by their suffix.

    Links are followed, each real folder is searched once, and real folders before links to them.
    Hidden files and system folders are passed over, unreadable folders are named in the log.

    Args:
        folder: Where to search.
        max_corrupt: Unreadable folders to pass over before giving up; None: all.

    Raises:
        DataError: If the folder is absent or cannot be read, or too many of its subfolders cannot.
    """
    root = str(folder)
    shown = printable(os.path.abspath(root))
    if not os.path.isdir(root):
        raise DataError(f"no such folder of images: {shown}")
    found = Found(root)
    _search(found)
    if "" in found.unreadable:
        raise DataError(f"cannot read the folder {shown}: {found.unreadable['']}")
    for name, reason in found.unreadable.items():
        logger.warning("skipped unreadable folder %s: %s", printable(f"{root}/{name}"), reason)
    if max_corrupt is not None:
        check_limit(root, found.unreadable, max_corrupt, "unreadable folders")
    found.names.sort()
    return found


def list_images(folder: str | Path) -> list[str]:
    """The images below ``folder``: relative names, sorted; errors as of :meth:`Found.images`."""
    return search_folder(folder).images()


def _search(found: Found) -> None:
    suffixes = image_suffixes()
    # a link to a folder above would go in a circle
    known = {_identity(place) for place in Path(found.root).resolve().parents} - {None}
    starts = [""]
    while starts:
        starts.sort(reverse=True)
        top = os.path.join(found.root, starts.pop())
        for folder, folders, files in os.walk(top, onerror=partial(_note_unreadable, found)):
            identity, prefix = _identity(folder), folder[len(os.path.join(found.root, "")) :]
            if identity is not None and identity in known:
                found.repeated += 1
                folders.clear()
                continue
            known.add(identity)
            for name in folders[:]:
                path = os.path.join(prefix, name)
                is_system = name.startswith(".") or name.lower() in SYSTEM_FOLDERS
                found.system_folders += is_system
                if is_system or os.path.islink(os.path.join(found.root, path)):
                    folders.remove(name)
                    starts += [] if is_system else [path]
            for name in files:
                suffix = os.path.splitext(name)[1].lower()
                if name.startswith("."):
                    found.hidden += 1
                elif suffix in suffixes:
                    found.names.append(os.path.join(prefix, name))
                else:
                    found.others[printable(suffix) or "no suffix"] += 1


def _note_unreadable(found: Found, error: OSError) -> None:
    name = os.path.relpath(error.filename, found.root)
    found.unreadable["" if name == "." else name] = f"{type(error).__name__}: {error.strerror}"


def _identity(folder: str | Path) -> tuple[int, int] | None:
    """What is the same for all names of a folder; None where it cannot be told."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_limit(
    root: str | Path, corrupt: Mapping[str, str], limit: int, what: str = "corrupt images"
) -> None:
    """Refuse, by a :class:`DataError`, more ``corrupt`` parts (name to reason) than ``limit``."""
    if len(corrupt) <= limit:
        return
    shown = "; ".join(f"{printable(n)} ({reason})" for n, reason in list(corrupt.items())[:5])
    raise DataError(
        f"{len(corrupt)} {what} in {printable(str(root))}, more than max_corrupt={limit}: {shown}"
        f"{'; …' if len(corrupt) > 5 else ''}. Repair or remove them, or raise max_corrupt"
    )


def below(names: Iterable[str], folder: str) -> list[str]:
    """The names that lie below a folder, relative to it."""
    start = f"{folder}{os.sep}"
    return [name[len(start) :] for name in names if name.startswith(start)]
