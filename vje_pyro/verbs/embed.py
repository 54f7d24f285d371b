"""Embeddings and posteriors of images, as a file."""

import io
from pathlib import Path

import numpy as np

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.data import load_images
from vje_pyro.data.decoding import printable
from vje_pyro.distributions.moments import moments
from vje_pyro.errors import VJEError
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.run import Representation

_FORMATS = (".npz", ".parquet")


def embed(
    run: Representation, images: str | Path, out: str | Path, *, max_corrupt: int = 10
) -> Path:
    """Write embeddings, posterior means and scales of images, by file name.

    Columns (arrays of the npz): ``name`` ``(N,)``, ``embedding`` ``(N, D)`` and, where the method
    has a posterior, ``posterior_loc`` and ``posterior_scale`` ``(N, D)``, all float32. Bytes of a
    name that are no UTF-8 are surrogates in the npz, as in Python, and ``\\xNN`` in parquet.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: A folder (searched recursively), an image file, or an .npy or .npz of arrays.
        out: File to write, .npz or .parquet (extra ``parquet``); never overwritten.
        max_corrupt: Damaged files that are named and skipped before giving up.

    Raises:
        VJEError: If ``out`` exists or has another ending, or pyarrow is missing.
        DataError: If there are no images, or too many are damaged.

    Example:
        >>> embed(run, "photos", "photos.npz")  # doctest: +SKIP
        PosixPath('photos.npz')
    """
    out = Path(out)
    if out.suffix not in _FORMATS:
        raise VJEError(f"cannot write {out}: the file must end in one of {_FORMATS}.")
    if out.exists():
        raise VJEError(f"{out} exists and is not overwritten: choose another name.")
    write = _parquet if out.suffix == ".parquet" else _npz
    size, channels = run.source.image_size, run.source.channels
    data, names = load_images(images, size, channels, max_corrupt, run.source.value_range)
    columns = {"name": np.asarray(names), "embedding": run.embed(data.images).numpy()}
    if isinstance(run.method, ProbabilisticMethod):
        loc, scale = moments(run.posterior(data.images))
        columns |= {"posterior_loc": loc.cpu().numpy(), "posterior_scale": scale.cpu().numpy()}
    make_folder(out.parent)
    write_atomic(out, write(columns))
    return out


def _npz(columns: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _parquet(columns: dict[str, np.ndarray]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise VJEError(
            "writing parquet needs pyarrow: pip install 'vje-pyro[parquet]', or write .npz."
        ) from error
    columns = columns | {"name": np.array([printable(name) for name in columns["name"].tolist()])}
    table = pyarrow.table({k: list(v) if v.ndim > 1 else v for k, v in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()
