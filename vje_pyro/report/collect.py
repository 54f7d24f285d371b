"""What a report needs from a run: its logs, its results and what the method says about images."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.batches import select_images
from vje_pyro.distributions.moments import moments
from vje_pyro.embedding import map_batches
from vje_pyro.errors import CheckpointError, DataError
from vje_pyro.evaluation.result import Result
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.reading import damaged, read_csv, validate
from vje_pyro.run import Representation

SEED = 0
"""Seed of every random choice that a report makes (which images, which queries)."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Log:
    """A CSV log: a float64 column for every name (NaN where blank), and the alarms by row."""

    columns: dict[str, Floats]
    alarms: tuple[str, ...] = ()

    def get(self, name: str) -> Floats | None:
        """The column, or None where it is absent or holds no finite number."""
        column = self.columns.get(name)
        return column if column is not None and np.isfinite(column).any() else None

    def last(self, name: str) -> float | None:
        """The last finite number of a column, or None."""
        column = self.get(name)
        return None if column is None else float(column[np.isfinite(column)][-1])


@dataclass(frozen=True)
class Results:
    """The result files of a run, and the files that could not be read with the reason."""

    read: list[tuple[str, Result]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """Images drawn from one split, with what the method says about each.

    Args:
        name: Name of the split.
        total: Images in the whole split.
        data: The split itself; pictures are fetched from it when they are shown.
        indices: Rows of the split that were drawn, ``(n,)``.
        labels: ``(n,)``, −1 where unlabelled.
        classes: Class names, ``()`` where unknown.
        channels: Channels to which images on disk are brought.
        image_size: Side in pixels to which images on disk are brought.
        embeddings: ``(n, D)``.
        loc: Posterior means ``(n, D)``, or None without a posterior.
        scale: Posterior standard deviations ``(n, D)``, or None without a posterior.
    """

    name: str
    total: int
    data: Any
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    channels: int
    image_size: int
    embeddings: Floats
    loc: Floats | None
    scale: Floats | None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return bool((self.labels >= 0).any())

    def class_name(self, label: int) -> str:
        """Name of a class, its number where it has no name, "unlabelled" for −1."""
        if label < 0:
            return "unlabelled"
        return self.classes[label] if label < len(self.classes) else str(label)

    def pictures(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """The images of some rows, ``(n, C, H, W)`` uint8."""
        chosen = self.indices[np.asarray(rows)]
        return select_images(self.data, chosen, self.channels, self.image_size)[0]


def read_log(path: Path, needed: Collection[str] = ()) -> Log | None:
    """Reads a CSV log of the trainer; None where there is none or it has no rows.

    A last line that a killed process left half written is read as far as it goes.

    Args:
        path: The file.
        needed: Columns that it must have.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not path.exists():
        return None
    rows = read_csv(path, keep_unfinished=True)
    if not rows:
        return None
    names = [name for name in rows[0] if name != "alarms"]
    texts = {name: [row.get(name) or "nan" for row in rows] for name in names}
    try:
        if missing := sorted(set(needed) - set(names)):
            raise ValueError(f"it has no columns {missing}")
        numbers = validate(dict[str, list[float]], texts)
    except ValueError as error:
        raise damaged(path, error, "Move it away to continue without it.") from error
    columns = {name: np.array(column) for name, column in numbers.items()}
    return Log(columns, tuple((row.get("alarms") or "").strip() for row in rows))


def read_results(folder: Path) -> Results:
    """Reads every ``*.json`` of a folder, single figures first; a damaged file is only named."""
    results = Results()
    for path in sorted(folder.glob("*.json")):
        try:
            results.read.append((path.name, Result.read(path)))
        except CheckpointError as error:
            results.refused.append((path.name, str(error)))
    results.read.sort(key=lambda named: (len(named[1].figures), named[1].protocol))
    return results


def measure(
    run: Representation, names: tuple[str, ...], limit: int, batch_size: int = 256
) -> Sample:
    """Embeds at most ``limit`` images of the first split in ``names`` that the source has.

    Args:
        run: The run; its method is put in evaluation mode meanwhile.
        names: Splits in order of preference.
        limit: Images to draw at random (fixed seed) from a larger split.
        batch_size: Images to embed at once.

    Raises:
        DataError: The data are not there, or the source has none of the splits.
    """
    name, data = _first_split(run.source, names)
    indices = np.arange(len(data))
    if len(data) > limit:
        indices = np.sort(np.random.default_rng(SEED).choice(len(data), limit, replace=False))
    shape = int(run.source.channels), int(run.source.image_size)
    readable: list[Tensor] = []

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(indices), batch_size):
            images, kept = select_images(data, indices[start : start + batch_size], *shape)
            readable.append(kept)
            yield images

    found = map_batches(run.method, lambda images: _describe(run, images), batches())
    embeddings, loc, scale = (
        found[name].numpy() if name in found else None for name in ("embeddings", "loc", "scale")
    )
    assert embeddings is not None
    indices = torch.cat(readable).numpy()
    labels = np.asarray(torch.as_tensor(data.labels).cpu(), dtype=np.int64)[indices]
    return Sample(
        name, len(data), data, indices, labels, tuple(data.classes), *shape, embeddings, loc, scale
    )


def split_sizes(source: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Images in each split that the source has."""
    sizes = {}
    for name in names:
        try:
            sizes[name] = len(source.split(name))
        except DataError:
            continue
    return sizes


def _describe(run: Representation, images: Tensor) -> dict[str, Tensor]:
    inputs = run.normalize(images)
    embeddings = run.method.embed(inputs)
    if not isinstance(run.method, ProbabilisticMethod):
        return {"embeddings": embeddings}
    if embeddings.isfinite().all():
        loc, scale = moments(run.method.posterior(inputs))
    else:  # distributions refuse such parameters
        loc = scale = torch.full_like(embeddings, torch.nan)
    return {"embeddings": embeddings, "loc": loc.float(), "scale": scale.float()}


def _first_split(source: Any, names: tuple[str, ...]) -> tuple[str, Any]:
    reasons = []
    for name in names:
        try:
            data = source.split(name)
        except DataError as error:
            reasons.append(str(error))
            continue
        if len(data) > 0:
            return name, data
        reasons.append(f"the split {name!r} is empty")
    raise DataError("; ".join(dict.fromkeys(reasons)))
