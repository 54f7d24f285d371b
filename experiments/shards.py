"""Make tar shards of a folder of images (pack), or the index of shards that are there (index)."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.data import index_shards, pack_folder
from vje_pyro.errors import VJEError


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; pack or index."""
    parser = argparse.ArgumentParser(prog="vje shards", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    pack = jobs.add_parser("pack", help="pack a folder of images into shards, and index them")
    pack.add_argument(
        "folder", type=os.path.expanduser, help="images, in subfolders that are classes or without"
    )
    pack.add_argument("root", type=os.path.expanduser, help="folder for the shards")
    pack.add_argument("--name", default="train", help="shards are NAME-000000.tar … (train)")
    pack.add_argument("--per-shard", type=int, default=1000, help="images of a shard (1000)")
    pack.add_argument("--seed", type=int, default=0, help="of the order of the images (0)")
    index = jobs.add_parser("index", help="note where the images of shards lie")
    index.add_argument("root", type=os.path.expanduser, help="folder of the shards, or its URL")
    index.add_argument("--shards", default="**/*.tar", help="braces or wildcards (**/*.tar)")
    index.add_argument("--label-key", default="label", help="of a sample's .json (label)")
    index.add_argument("--out", type=os.path.expanduser, help="file to write (ROOT/index.npz)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.job == "pack":
        pack_folder(options.folder, options.root, options.name, options.per_shard, options.seed)
        return
    if options.out is None and "://" in options.root:
        raise VJEError("an index cannot be written to a URL: set --out FILE")
    made = index_shards(options.root, options.shards, options.label_key)
    out = Path(options.out or f"{options.root}/index.npz")
    made.save(out)
    print(f"{len(made.labels)} images in {len(made.shards)} shards: {out}")
