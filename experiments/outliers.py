"""``vje outliers``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Place, Run, Where, _home, quiet

File = Annotated[str | None, Parameter(converter=_home)]


def main(
    run: Run,
    images: Place,
    /,
    *,
    detector: Literal["mahalanobis", "posterior-gaussian", "knn"] | None = None,
    count: int = 48,
    out: File = None,
    scores: File = None,
    max_corrupt: int = 10,
    where: Where = HERE,
) -> None:
    """A gallery of the least and most typical images of a folder, and a table of all scores.

    An image is typical if it resembles the training images of the run. The folder may hold these
    images. The score is chosen without outliers.

    Examples::

        vje outliers runs/photos photos
        vje outliers runs/photos new_photos --out new.html --scores new.parquet

    Args:
        images: Folder of images, image file, or .npy or .npz of arrays.
        detector: Score (default: chosen on training images and spoiled copies of them).
        count: Number of images to show at each end.
        out: Page to write (default: RUN/results/outliers-FOLDER.html).
        scores: File for the table, .csv or .parquet (default: beside the page).
        max_corrupt: Number of damaged files to skip; more are an error.
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.outliers import outliers

    found = outliers(
        loaded, images, detector=detector, count=count, out=out, scores=scores,
        max_corrupt=max_corrupt,
    )  # fmt: skip
    merits = ", ".join(f"{name} {merit:.3f}" for name, merit in found.merits.items())
    print(
        f"score {found.detector}" + (f", by mean AUROC on spoiled images: {merits}" * bool(merits))
    )
    from vje_pyro.data.decoding import printable

    for name, score in zip(found.names[:10], found.scores[:10], strict=True):
        print(f"{score:12.4g}  {printable(name)}")
    print(f"scores of {len(found.names)} images in {found.table}")
    print(f"gallery in {found.page}")
