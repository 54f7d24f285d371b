"""Rewrite the table of docs/reliability.md: what the campaigns of kills and damage counted.

    python benchmarks/campaigns_table.py           # rewrite it
    python benchmarks/campaigns_table.py --check   # exit 1 if that would change the page

The files are those that ``tests/campaigns`` write, a campaign each.
"""

import sys
from pathlib import Path

from tables import line, rewrite

from vje_pyro.reading import load_json

DOCS = Path(__file__).resolve().parents[1] / "docs"
ABOUT = ("name", "seed", "cases", "commit")


def campaigns_table(folder: Path = DOCS / "results/campaigns") -> str:
    """A row for each campaign, with all that it counted."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        found = load_json(path, "Run its campaign again.")
        counts = ", ".join(f"{k} {v:,}" for k, v in found.items() if k not in ABOUT)
        rows.append(line([found["name"], f"{found['cases']:,}", counts, str(found["seed"]),
                          (found["commit"] or "unknown")[:7]]))  # fmt: skip
    heading = [line(["campaign", "cases", "counted", "seed", "commit"]), line(["---"] * 5)]
    return "\n".join([*heading, *rows])


TABLES = {"campaigns": ("reliability.md", campaigns_table)}


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    return rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)


if __name__ == "__main__":
    sys.exit(main())
