"""What training costs, beside the encoder alone and beside lightly.

The page is docs/explanation/performance.md.

    python -m benchmarks [PART …] [--device cpu] [--threads 1] [--blocks 9]

Each part writes docs/results/benchmarks/<part>-<device>.json; ``make results`` makes the pages.

- ``peers``: bound, VJE, lightly's SimSiam and VICReg, in turns, for the small residual network at
  16 and at 32 pixels, batch 256; the split of a step.
- ``aggregate``: the step with each aggregate term beside the step without, in turns.
- ``methods``: a step of every method of the study of methods on the same views, in turns with
  the bound; give it that study's ``--batch 64 --image-sizes 16``.
- ``precision``: the step in float32 beside the step with the encoder in bfloat16, in turns.
- ``growth``: step and bound over batch size, embedding dimension and image size.
- ``pyro``: the step beside the same with the loss written by hand, and what it moves to the host.
- ``ranks``: images per second of ``vje train`` with one and with two processes.
- ``scoring``: log-likelihoods per second beside embeddings per second.
- ``startup``: wall time of help, of a refused command and of ``vje_pyro.load`` beside
  ``import torch``.
- ``views``: two views of a batch by this project, kornia, and torchvision image by image.
- ``distributions``: every law beside the diagonal Normal of the same shape.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyro
import torch

from benchmarks.parts import BATCH, PARTS
from benchmarks.timing import describe
from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.evaluation import Figure
from vje_pyro.provenance import origin

OUT = Path(__file__).parents[1] / "docs" / "results" / "benchmarks"


def write(name: str, options: argparse.Namespace, **content: Any) -> Path:
    """A result file, whole or not at all, with device, versions and commit."""
    settings = {k: v for k, v in vars(options).items() if k not in ("out", "device", "parts")}
    record = {
        "schema": "vje-pyro-performance", "schema_version": 1, "part": name, **content,
        "settings": settings, "seed": 0, "device": describe(options.device),
        **origin(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    path = options.out / f"{name}-{options.device.type}.json"
    make_folder(path.parent)
    write_atomic(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=9, help="how often each is timed")
    parser.add_argument("--workers", type=int, default=0, help="of lightly's loaders")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--width", type=int, default=256, help="features of the encoder")
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--methods", nargs="+", default=[], help="of the part of that name")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for part in options.parts or PARTS:
        torch.manual_seed(0)
        start = time.perf_counter()
        with pyro.validation_enabled(False):
            figures: dict[str, Figure] = PARTS[part](options)
        seconds = round(time.perf_counter() - start, 1)
        for name, figure in figures.items():
            print(f"{name:44} {figure.value:10.4g}  [{figure.low:.4g}, {figure.high:.4g}]")
        values = {name: vars(figure) for name, figure in figures.items()}
        print(write(part, options, figures=values, seconds=seconds), flush=True)


if __name__ == "__main__":
    main()
