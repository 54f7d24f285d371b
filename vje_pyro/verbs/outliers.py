"""The least and the most typical images of a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vje_pyro.data.decoding import printable
from vje_pyro.evaluation.unusual import Unusual
from vje_pyro.report.page import write_page
from vje_pyro.run import Representation
from vje_pyro.verbs.columns import write_columns
from vje_pyro.verbs.pictures import files, open_pictures


@dataclass(frozen=True)
class Outliers:
    """Images in the order of their score, least typical first.

    Args:
        names: Of N images.
        scores: ``(N,)``; higher is less typical.
        detector: Name of the score.
        merits: What each score was chosen by; empty where it was not chosen.
        page: The gallery.
        table: The scores of all images, as a file.
    """

    names: list[str]
    scores: NDArray[np.float64]
    detector: str
    merits: dict[str, float]
    page: Path
    table: Path


def outliers(
    run: Representation,
    images: str | Path,
    *,
    detector: str | None = None,
    count: int = 48,
    out: str | Path | None = None,
    scores: str | Path | None = None,
    max_corrupt: int = 10,
) -> Outliers:
    """Order images by how typical they are of the images that a run was trained on.

    Writes a gallery of the least and the most typical ones and a table with the score of each. The
    score is chosen by the protocol of ``docs/explanation/ood.md``, which sees no outliers, and no
    image is judged by a detector that was fitted on it (:mod:`vje_pyro.evaluation.unusual`).

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: A folder (searched recursively), an image file, or an .npy or .npz of arrays; it may
            be what the run was trained on.
        detector: ``mahalanobis``, ``posterior-gaussian`` or ``knn``; chosen when None.
        count: Images of each end that the gallery shows.
        out: The gallery; ``RUN/results/outliers-FOLDER.html`` when None.
        scores: The table, .csv or .parquet; beside the gallery when None.
        max_corrupt: Damaged files that are named and skipped before giving up.

    Raises:
        DataError: If there are no images, too many are damaged, or the run's own cannot be read.
        VJEError: If there is no such detector, or a file ends otherwise.
        WriteError: If a file cannot be written.

    Example:
        >>> found = outliers(run, "photos")  # doctest: +SKIP
        >>> found.names[:3]  # doctest: +SKIP
        ['noise.png', 'upside_down.jpg', 'blank.png']
    """
    page, table = files(run, images, "outliers", out, scores)
    unusual = Unusual(run.method, run.source.split("train"), run.normalize, detector)
    pictures = open_pictures(run, images, max_corrupt)
    values = unusual(pictures.described)
    order = np.argsort(-values, kind="stable")
    names = [pictures.names[row] for row in order]
    write_columns(table, {"image": np.array(names), "score": values[order]})
    shown = min(count, len(order))
    least, most = (
        [pictures.show(row, f"{values[row]:#.3g}") for row in rows.tolist()]
        for rows in (order[:shown], order[::-1][:shown])
    )
    write_page(
        "outliers.html", page, run_name=run.path.name, folder=printable(str(images)),
        count=len(order), detector=unusual.detector, merits=unusual.merits, least=least, most=most,
        scores_file=table.name,
    )  # fmt: skip
    return Outliers(names, values[order], unusual.detector, unusual.merits, page, table)
