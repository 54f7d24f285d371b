"""Make tar shards: ``python -m vje_pyro.data pack FOLDER ROOT``, or ``… index ROOT``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.data.indexing import index_shards
from vje_pyro.data.packing import pack_folder
from vje_pyro.data.shard_index import INDEX_NAME
from vje_pyro.data.shards import is_remote
from vje_pyro.errors import VJEError


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; pack or index."""
    parser = argparse.ArgumentParser(prog="python -m vje_pyro.data", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    pack = jobs.add_parser("pack", help="pack a folder of images into shards, and index them")
    pack.add_argument("folder", help="images, in subfolders that are classes or without")
    pack.add_argument("root", help="folder for the shards")
    pack.add_argument("--name", default="train", help="shards are NAME-000000.tar … (train)")
    pack.add_argument("--per-shard", type=int, default=1000, help="images of a shard (1000)")
    pack.add_argument("--seed", type=int, default=0, help="of the order of the images (0)")
    index = jobs.add_parser("index", help="note where the images of shards lie")
    index.add_argument("root", help="folder of the shards, or its URL")
    index.add_argument("--shards", default="**/*.tar", help="braces or wildcards (**/*.tar)")
    index.add_argument("--label-key", default="label", help="of a sample's .json (label)")
    index.add_argument("--out", help=f"file to write (ROOT/{INDEX_NAME})")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _pack(options) if options.job == "pack" else _index(options)
    except (VJEError, ValueError) as error:
        sys.exit(f"error: {error}")


def _pack(options: argparse.Namespace) -> None:
    pack_folder(options.folder, options.root, options.name, options.per_shard, options.seed)


def _index(options: argparse.Namespace) -> None:
    if options.out is None and is_remote(options.root):
        raise VJEError("an index cannot be written to a URL: set --out FILE")
    found = index_shards(options.root, options.shards, options.label_key)
    out = options.out or Path(options.root) / INDEX_NAME
    found.save(out)
    print(f"{len(found)} images in {len(found.shards)} shards: {out}")


if __name__ == "__main__":
    main()
