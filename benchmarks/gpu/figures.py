"""Figures of a folder of result files, under one roof."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import over_seeds


def read_results(folder: Path) -> list[Result]:
    """The result files that lie in a folder itself, by name."""
    return [Result.read(path) for path in sorted(folder.glob("*.json"))]


def merged(results: Sequence[Result], prefix: str = "") -> dict[str, Figure]:
    """Figures by ``<prefix><protocol>_<name>``; over several seeds the mean with its interval."""
    found: dict[str, list[Figure]] = defaultdict(list)
    for result in results:
        for name, figure in result.figures.items():
            found[f"{prefix}{result.protocol}_{name}"].append(figure)
    return {name: over_seeds(figures) for name, figures in found.items()}
