"""Tables of the benchmarks' result files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from studies.pivot import Row, table
from vje_pyro.reading import load_json

CONTENDERS = {
    "vje": "VJE", "lightly_simsiam": "lightly, SimSiam", "lightly_vicreg": "lightly, VICReg",
}  # fmt: skip
PIECES = {
    "data": "batch", "views": "views", "encoder": "encoder, forward", "head": "head, forward",
    "head_backward": "head, backward", "backward": "encoder, backward", "optimizer": "optimiser",
    "whole_head": "*the whole head*",
}  # fmt: skip
OTHER = {
    "ranks_speedup": ("ranks", "training, two processes", "images / s of one process"),
    "log_likelihood_1_to_embed": ("scoring", "log-likelihood, 1 sample", "time of embedding"),
    "log_likelihood_16_to_embed": ("scoring", "log-likelihood, 16 samples", "time of embedding"),
    "help_to_import_torch": ("startup", "`vje --help`", "time of `import torch`"),
    "train_help_to_import_torch": ("startup", "`vje train --help`", "time of `import torch`"),
    "evaluate_help_to_import_torch": ("startup", "`vje evaluate --help`", "time of `import torch`"),
    "unknown_key_to_import_torch": (
        "startup",
        "`vje train training.epoch=3`, refused",
        "time of `import torch`",
    ),
    "load_to_import_torch": ("startup", "`vje_pyro.load`, imported", "time of `import torch`"),
}


def benchmark(results: Path, part: str) -> Any:
    """The result file of a benchmark."""
    path = results / "benchmarks" / f"{part}-cpu.json"
    return load_json(path, "Run the benchmark again.", f"{path} is missing: run the benchmark.")


def quartiles(figure: Mapping[str, float], digits: int = 2, factor: float = 1) -> str:
    """Median and quartiles."""
    value, low, high = (f"{factor * figure[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Ratios:
    """Ratios of a benchmark, a row for each image size and name.

    Args:
        part: Of the benchmarks.
        heading: Of the columns.
        names: As figures have them, and as they are shown: formats of the result's content.
        cells: Format of each figure's name, decimals, and what it is multiplied by.
    """

    part: str
    heading: Row
    names: Mapping[str, str]
    cells: Sequence[tuple[str, int, float]]

    def __call__(self, results: Path) -> str:
        """The table, from the folder of results."""
        content = benchmark(results, self.part)
        figures, rows = content["figures"], []
        sizes = content["settings"]["image_sizes"]
        for size, (name, shown) in product(sizes, self.names.items()):
            cells = []
            for key, digits, factor in self.cells:
                figure = figures.get(key.format(size=size, name=name))
                cells.append(quartiles(figure, digits, factor) if figure else "")
            rows.append([str(size), shown.format(**content), *cells])
        return table(self.heading, rows)


def split_table(results: Path) -> str:
    """Shares of a step."""
    content = benchmark(results, "peers")
    sizes = content["settings"]["image_sizes"]
    rows = (
        [shown, *(quartiles(content["figures"][f"{size}px_share_{p}"], 1, 100) for size in sizes)]
        for p, shown in PIECES.items()
    )
    return table(["piece, % of the step", *(f"{size} px" for size in sizes)], rows)


def growth_table(results: Path) -> str:
    """The ratio to the bound."""
    names = {"batch": "batch size", "dim": "dimension D", "pixels": "image size"}
    rows = []
    for name, figure in benchmark(results, "growth")["figures"].items():
        if name.endswith("_to_bound"):
            what, value, *_ = name.split("_")
            rows.append([names[what], value, quartiles(figure)])
    return table(["what changes", "to", "time over the bound's"], rows)


def other_table(results: Path) -> str:
    """Processes, scoring and start-up: what has been measured."""
    rows = (
        [what, unit, quartiles(figure)]
        for name, (part, what, unit) in OTHER.items()
        if (figure := benchmark(results, part)["figures"].get(name))
    )
    return table(["what", "in units of", "median [quartiles]"], rows)


def memory_table(results: Path) -> str:
    """Bytes of a step by encoder."""
    names = {
        "small_resnet-32": "small residual network, 32 px", "resnet18-32": "ResNet-18, 32 px",
        "resnet50-224": "ResNet-50, 224 px",
    }  # fmt: skip
    rows = []
    path = results / "benchmarks" / "memory.json"
    for key, found in load_json(path, "Run the benchmark again.")["encoders"].items():
        kept, checkpointed = found["kept"], found["checkpointed"]
        activations = (x["activations_per_image_and_view"] / 2**10 for x in (kept, checkpointed))
        first, second = (f"{a:,.0f}" for a in activations)
        ratios = ("step_over_bound", "step_over_1.05_bound_plus_views", "step_over_formula")
        rows.append([
            f"{names[key]}, {found['batch_size']}", first,
            *(f"{kept[k] / 2**20:,.1f}" for k in ("bound", "step")),
            *(f"{found[ratio]:.3f}" for ratio in ratios),
            f"{found['checkpointed_step_over_step']:.2f} (a: {second} KiB)",
        ])  # fmt: skip
    return table([
        "encoder, batch", "a, KiB", "bound, MiB", "step, MiB", "step / bound",
        "step / (1.05 bound + views)", "step / formula", "step with activation checkpointing",
    ], rows)  # fmt: skip
