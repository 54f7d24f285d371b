"""``vje shards``."""

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from vje_pyro.errors import VJEError
from vje_pyro.experiments.common import Place, _home

app = App(
    name="shards", group="Others", help="Tar shards of a folder of images, and the index of shards."
)


@app.command
def pack(
    folder: Place, root: Place, /, *, name: str = "train", per_shard: int = 1000, seed: int = 0
) -> None:
    """Pack a folder of images into shards, and index them.

    Args:
        folder: Folder of images; subfolders are classes.
        root: Folder for the shards.
        name: Shards are NAME-000000.tar and so on.
        per_shard: Number of images per shard.
        seed: Random seed of the order of the images.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from vje_pyro.data import pack_folder

    pack_folder(folder, root, name, per_shard, seed)


@app.command
def index(
    root: Place,
    /,
    *,
    shards: str = "**/*.tar",
    label_key: str = "label",
    out: Annotated[str | None, Parameter(converter=_home)] = None,
) -> None:
    """Make the index of shards: where each image is.

    Args:
        root: Folder of the shards, or its URL.
        shards: Names of the shards, with braces or wildcards.
        label_key: Key of the label in a sample's .json.
        out: File to write (default: ROOT/index.npz).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if out is None and "://" in root:
        raise VJEError("an index cannot be written to a URL: set --out FILE")
    from vje_pyro.data import index_shards

    made = index_shards(root, shards, label_key)
    path = Path(out or f"{root}/index.npz")
    made.save(path)
    print(f"{len(made.labels)} images in {len(made.shards)} shards: {path}")
