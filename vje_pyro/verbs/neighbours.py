"""The images of a folder that resemble each other."""

from pathlib import Path

import numpy as np
import torch

from vje_pyro.data.decoding import printable
from vje_pyro.errors import DataError
from vje_pyro.evaluation.knn import nearest
from vje_pyro.report.gallery import Neighbours
from vje_pyro.report.page import write_page
from vje_pyro.run import Representation
from vje_pyro.verbs.columns import write_columns
from vje_pyro.verbs.pictures import files, open_pictures


def neighbours(
    run: Representation,
    images: str | Path,
    *,
    queries: str | Path | None = None,
    k: int = 8,
    count: int = 24,
    out: str | Path | None = None,
    table: str | Path | None = None,
    max_corrupt: int = 10,
) -> Path:
    """Write a gallery of images with their nearest neighbours, and a table of all neighbours.

    Columns of the table: ``image``, ``rank`` (from 1), ``neighbour``, ``similarity`` (cosine of the
    embeddings).

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: A folder (searched recursively), or an .npy or .npz of arrays.
        queries: Images to search for, another folder or one image; the images themselves when None.
        k: Neighbours per image; at most as many as exist.
        count: Queries that the gallery shows, drawn at random if there are more.
        out: The gallery; ``RUN/results/neighbours-FOLDER.html`` when None.
        table: The table, .csv or .parquet; beside the gallery when None.
        max_corrupt: Damaged files to skip; more are an error.

    Returns:
        The gallery.

    Raises:
        DataError: If there are too few images, or too many are damaged.
        VJEError: If a file ends otherwise.
        WriteError: If a file cannot be written.

    Example:
        >>> neighbours(run, "photos", queries="cat.jpg")  # doctest: +SKIP
        PosixPath('runs/photos/results/neighbours-photos.html')
    """
    page, rows_file = files(run, images, "neighbours", out, table)
    bank = open_pictures(run, images, max_corrupt)
    asked = bank if queries is None else open_pictures(run, queries, max_corrupt)
    k = min(k, len(bank) - (asked is bank))
    if k < 1:
        raise DataError(f"{printable(str(images))} holds {len(bank)} image: neighbours need more.")
    queried, known = (torch.from_numpy(p.described.embeddings) for p in (asked, bank))
    similarity, places = nearest(queried, known, k, same=asked is bank)
    names = np.array(bank.names)
    columns = {
        "image": np.repeat(np.array(asked.names), k),
        "rank": np.tile(np.arange(1, k + 1), len(asked)),
        "neighbour": names[places.numpy().ravel()],
        "similarity": similarity.numpy().ravel(),
    }
    write_columns(rows_file, columns)
    chosen = np.sort(np.random.default_rng(0).permutation(len(asked))[:count])
    rows = []
    for query in chosen.tolist():
        near = zip(places[query].tolist(), similarity[query].tolist(), strict=True)
        found = [bank.show(place, f"{cosine:.3f}") for place, cosine in near]
        rows.append(Neighbours(asked.show(query), found))
    return write_page(
        "neighbours.html", page, run_name=run.path.name, folder=printable(str(images)),
        count=len(asked), rows=rows, table_file=rows_file.name,
    )  # fmt: skip
