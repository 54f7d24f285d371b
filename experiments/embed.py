"""``vje embed``."""

from vje_pyro.experiments.common import HERE, Place, Run, Where


def main(
    run: Run,
    images: Place,
    /,
    *,
    out: Place = "embeddings.npz",
    max_corrupt: int = 10,
    where: Where = HERE,
) -> None:
    """Embeddings and posteriors of a folder of images.

    Examples::

        vje embed runs/digits photos --out photos.npz
        vje embed runs/digits photos --out photos.parquet

    Args:
        images: Folder of images, image file, or .npy or .npz of arrays.
        out: File to write, .npz or .parquet; never overwritten.
        max_corrupt: Number of damaged files to skip; more are an error.
    """
    loaded = where.load(run)
    from vje_pyro.verbs.embed import embed

    print(embed(loaded, images, out, max_corrupt=max_corrupt))
