"""``vje neighbours``."""

from vje_pyro.experiments.common import HERE, Place, Run, Where, quiet
from vje_pyro.experiments.outliers import File


def main(
    run: Run,
    images: Place,
    /,
    *,
    queries: File = None,
    k: int = 8,
    count: int = 24,
    out: File = None,
    table: File = None,
    max_corrupt: int = 10,
    where: Where = HERE,
) -> None:
    """A gallery of images with their nearest neighbours in a folder.

    Examples::

        vje neighbours runs/photos photos
        vje neighbours runs/photos photos --queries cat.jpg --out cats.html

    Args:
        images: Folder of images, or .npy or .npz of arrays.
        queries: Images to search for: a folder or one image (default: the images themselves).
        k: Number of neighbours per image.
        count: Number of queries to show.
        out: Page to write (default: RUN/results/neighbours-FOLDER.html).
        table: File for all neighbours, .csv or .parquet (default: beside the page).
        max_corrupt: Number of damaged files to skip; more are an error.
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.neighbours import neighbours

    page = neighbours(
        loaded, images, queries=queries, k=k, count=count, out=out, table=table,
        max_corrupt=max_corrupt,
    )  # fmt: skip
    print(f"gallery in {page}")
