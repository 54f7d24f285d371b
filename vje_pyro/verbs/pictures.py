"""Images of a user, as commands on a run read them and show them."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vje_pyro.data.decoding import CorruptImage, printable
from vje_pyro.data.given import open_images
from vje_pyro.errors import DataError, VJEError
from vje_pyro.evaluation.scorer import Split
from vje_pyro.evaluation.unusual import Described, describe
from vje_pyro.report.gallery import Picture, photograph
from vje_pyro.run import Representation
from vje_pyro.verbs.columns import check_columns
from vje_pyro.verbs.detect import readable

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Pictures:
    """Images that could be decoded, with their names and features.

    Args:
        split: All images, also the damaged ones.
        rows: Indices in the split of those that could be decoded.
        names: Their names.
        described: Their features.
    """

    split: Split
    rows: list[int]
    names: list[str]
    described: Described

    def __len__(self) -> int:
        return len(self.rows)

    def show(self, row: int, note: str = "") -> Picture:
        """An image for a page, with its name.

        Raises:
            DataError: It cannot be decoded any more.
        """
        (image,) = self.split.decoded([self.rows[row]])
        if isinstance(image, CorruptImage):
            raise DataError(f"{printable(self.names[row])}: {image}")
        return photograph(Image.Image.copy(image), printable(self.names[row]), note)


def open_pictures(run: Representation, images: str | Path, max_corrupt: int = 10) -> Pictures:
    """Read and embed a user's images.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: A folder (searched recursively), an image file, or an .npy or .npz of arrays.
        max_corrupt: Damaged files to skip; more are an error.

    Raises:
        DataError: If there are no images, or too many are damaged.
    """
    source = run.source
    split, names = open_images(
        images, source.image_size, source.channels, max_corrupt, source.value_range,
        getattr(source, "crop_fraction", 1.0),
    )  # fmt: skip
    described = describe(run.method, split, run.normalize)
    rows = readable(split)
    return Pictures(split, rows, [names[row] for row in rows], described)


def files(
    run: Representation,
    images: str | Path,
    verb: str,
    out: str | Path | None,
    table: str | Path | None,
) -> tuple[Path, Path]:
    """Where the page and the table of a command go: beside each other, in ``RUN/results``.

    Raises:
        VJEError: A file has another ending than it must have, or pyarrow is missing.
    """
    stem = f"{verb}-{printable(Path(images).absolute().name).replace('/', '_')}"
    page = run.directory.results / f"{stem}.html" if out is None else Path(out)
    if page.suffix not in (".html", ".htm"):
        raise VJEError(f"cannot write {page}: a page must end in .html.")
    rows = page.with_suffix(".csv") if table is None else Path(table)
    check_columns(rows, FORMATS)
    return page, rows
