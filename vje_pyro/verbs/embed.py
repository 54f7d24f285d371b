"""Embeddings and posteriors of images, as a file."""

from pathlib import Path

import numpy as np

from vje_pyro.data import load_images
from vje_pyro.distributions.moments import moments
from vje_pyro.errors import VJEError
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.run import Representation
from vje_pyro.verbs.columns import check_columns, write_columns

_FORMATS = (".npz", ".parquet")


def embed(
    run: Representation, images: str | Path, out: str | Path, *, max_corrupt: int = 10
) -> Path:
    """Write embeddings, posterior means and scales of images, by file name.

    Columns (arrays of the npz): ``name`` ``(N,)``, ``embedding`` ``(N, D)`` and, if the method has
    a posterior, ``posterior_loc`` and ``posterior_scale`` ``(N, D)``, all float32. Bytes of a
    name that are not UTF-8 are surrogates in the npz, as in Python, and ``\\xNN`` in parquet.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: A folder (searched recursively), an image file, or an .npy or .npz of arrays.
        out: File to write, .npz or .parquet (extra ``parquet``); never overwritten.
        max_corrupt: Damaged files to skip; more are an error.

    Raises:
        VJEError: If ``out`` exists or has another ending, or pyarrow is missing.
        DataError: If there are no images, or too many are damaged.

    Example:
        >>> embed(run, "photos", "photos.npz")  # doctest: +SKIP
        PosixPath('photos.npz')
    """
    out = Path(out)
    check_columns(out, _FORMATS)
    if out.exists():
        raise VJEError(f"{out} exists and is not overwritten: choose another name.")
    size, channels = run.source.image_size, run.source.channels
    data, names = load_images(images, size, channels, max_corrupt, run.source.value_range)
    columns = {"name": np.asarray(names), "embedding": run.embed(data.images).numpy()}
    if isinstance(run.method, ProbabilisticMethod):
        loc, scale = moments(run.posterior(data.images))
        columns |= {"posterior_loc": loc.cpu().numpy(), "posterior_scale": scale.cpu().numpy()}
    return write_columns(out, columns)
