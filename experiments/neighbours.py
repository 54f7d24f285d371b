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
        queries: Images to look for: a folder, or one image (the images themselves).
        k: Neighbours of an image.
        count: Queries that are shown.
        out: The page (RUN/results/neighbours-FOLDER.html).
        table: All neighbours, .csv or .parquet (beside the page).
        max_corrupt: Damaged files that are skipped and named before giving up.
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.neighbours import neighbours

    page = neighbours(
        loaded, images, queries=queries, k=k, count=count, out=out, table=table,
        max_corrupt=max_corrupt,
    )  # fmt: skip
    print(f"gallery in {page}")
