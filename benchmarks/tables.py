"""Tables of the pages in docs/ that are made from result files, each between two markers.

A table stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vje_pyro.atomic import write_atomic
from vje_pyro.errors import VJEError


def line(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def update(page: str, name: str, content: str) -> str:
    """The page with the content between the table's markers.

    Raises:
        VJEError: If the markers are not there once each.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise VJEError(f"the page must hold one line {begin} and after it one line {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", page)


def rewrite(
    description: str,
    docs: Path,
    tables: Mapping[str, tuple[str, Callable[[], str]]],
    arguments: list[str] | None = None,
) -> int:
    """Command line of a script that rewrites tables; ``--check`` only looks.

    Args:
        description: Of the script.
        docs: Folder of the pages.
        tables: Page and maker of each table by name.
        arguments: Of the command line.

    Returns:
        Exit code: 1 if a check found a stale table.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="only say whether they are up to date")
    check, stale = parser.parse_args(arguments).check, []
    for name, (file, make) in tables.items():
        page = docs / file
        old = page.read_text(encoding="utf-8")
        new = update(old, name, make())
        if new != old:
            stale.append(name)
            if not check:
                write_atomic(page, new)
    print(f"stale: {stale}" if check else f"rewritten: {stale}")
    return int(check and bool(stale))
