"""Rewrite the tables of docs/performance.md and docs/scaling.md, and a plot, from result files.

    python benchmarks/performance_table.py           # rewrite them
    python benchmarks/performance_table.py --check   # exit 1 if that would change the page

The files are docs/results/benchmarks/<part>-cpu.json of ``benchmarks/performance.py``, and
memory.json of ``benchmarks/memory.py``.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Plot
from tables import line, rewrite

from vje_pyro.atomic import write_atomic

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results" / "benchmarks"

CONTENDERS = {
    "vje": "VJE", "lightly_simsiam": "lightly, SimSiam", "lightly_vicreg": "lightly, VICReg",
}  # fmt: skip
AGGREGATES = ("sigreg", "sliced_wasserstein", "variance_covariance")
PIECES = {
    "data": "batch", "views": "views", "encoder": "encoder, forward", "head": "head, forward",
    "head_backward": "head, backward", "backward": "encoder, backward", "optimizer": "optimiser",
}  # fmt: skip


def read(part: str) -> dict[str, Any]:
    """A result file."""
    return json.loads((RESULTS / f"{part}-cpu.json").read_text(encoding="utf-8"))


def show(figure: dict[str, float], digits: int = 2, factor: float = 1) -> str:
    """Median and quartiles."""
    value, low, high = (f"{factor * figure[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join(map(line, [heading, ["---"] * len(heading), *rows]))


def sizes(content: dict[str, Any]) -> list[int]:
    """Image sizes of a part."""
    return content["settings"]["image_sizes"]


def peers_table() -> str:
    """Ratios to the bound and to VJE: absolute times are those of one machine."""
    content = read("peers")
    figures, rows = content["figures"], []
    for size in sizes(content):
        for name, shown in CONTENDERS.items():
            speed = figures.get(f"{size}px_vje_speed_over_{name}")
            bound = show(figures[f"{size}px_{name}_to_bound"])
            rows.append([str(size), shown, bound, show(speed) if speed else ""])
    return markdown(["pixels", "what", "time over the bound's", "VJE's speed over its"], rows)


def split_table() -> str:
    """Shares of a step."""
    content = read("peers")
    figures = content["figures"]
    rows = [
        [shown, *(show(figures[f"{size}px_share_{piece}"], 1, 100) for size in sizes(content))]
        for piece, shown in {**PIECES, "whole_head": "*the whole head*"}.items()
    ]
    return markdown(["piece, % of the step", *(f"{size} px" for size in sizes(content))], rows)


def aggregate_table() -> str:
    """The step with an aggregate term over the step without."""
    if not (RESULTS / "aggregate-cpu.json").exists():
        return "Not run yet."
    content = read("aggregate")
    figures = content["figures"]
    rows = [
        [
            str(size), f"`{name}`", show(figures[f"{size}px_{name}_to_none"], 3),
            show(figures[f"{size}px_{name}_alone_to_none"], 2, 100),
        ]
        for size in sizes(content)
        for name in AGGREGATES
    ]  # fmt: skip
    heading = ["pixels", "`aggregate=`", "step over the step without", "the term alone, % of it"]
    return markdown(heading, rows)


def precision_table() -> str:
    """The speed of bfloat16 over float32's."""
    content = read("precision")
    rows = [
        [str(size), content["device"]["bfloat16"],
         show(content["figures"][f"{size}px_bfloat16_speed"])]
        for size in sizes(content)
    ]  # fmt: skip
    return markdown(["pixels", "instructions", "speed in bfloat16 over float32's"], rows)


def growth_table() -> str:
    """The ratio to the bound."""
    figures = read("growth")["figures"]
    rows = []
    for name in figures:
        if name.endswith("_to_bound"):
            case = name.removesuffix("_to_bound")
            what, value = case.split("_")
            shown = {"batch": "batch size", "dim": "dimension D", "pixels": "image size"}[what]
            rows.append([shown, value, show(figures[name])])
    return markdown(["what changes", "to", "time over the bound's"], rows)


def other_table() -> str:
    """Processes, scoring and start-up."""
    figures = {
        k: v for part in ("ranks", "scoring", "startup") for k, v in read(part)["figures"].items()
    }
    kinds = {
        "ranks_speedup": ("training, two processes", "images / s of one process"),
        "log_likelihood_1_to_embed": ("log-likelihood, 1 sample", "time of embedding"),
        "log_likelihood_16_to_embed": ("log-likelihood, 16 samples", "time of embedding"),
        "help_to_import_torch": ("`vje --help`", "time of `import torch`"),
        "train_help_to_import_torch": ("`vje train --help`", "time of `import torch`"),
    }
    rows = [[what, unit, show(figures[name])] for name, (what, unit) in kinds.items()]
    return markdown(["what", "in units of", "median [quartiles]"], rows)


def plot() -> str:
    """Times over the bound's of all contenders as SVG, the same bytes from the same figures."""
    content = read("peers")
    number = len(sizes(content))
    plot = Plot(figsize=(7, 1 + number), layout="constrained")
    all_axes = plot.subplots(number, sharex=True, squeeze=False)[:, 0]
    for axes, size in zip(all_axes, sizes(content), strict=True):
        ratios = [content["figures"][f"{size}px_{name}_to_bound"] for name in CONTENDERS]
        values = [ratio["value"] for ratio in ratios]
        errors = [
            [ratio["value"] - ratio["low"] for ratio in ratios],
            [ratio["high"] - ratio["value"] for ratio in ratios],
        ]
        colors = ["C0", "C1", "C1"]
        axes.barh(list(CONTENDERS.values()), values, xerr=errors, color=colors, capsize=3)
        axes.axvline(1, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(f"{size} pixels", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[-1].set_xlabel("time of a step over the bound's")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vje-pyro", "svg.fonttype": "none"}):
        plot.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def memory_table() -> str:
    """Bytes of a step by encoder."""
    names = {
        "small_resnet-32": "small residual network, 32 px", "resnet18-32": "ResNet-18, 32 px",
        "resnet50-224": "ResNet-50, 224 px",
    }  # fmt: skip
    rows = []
    content = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    for key, found in content["encoders"].items():
        kept, checkpointed = found["kept"], found["checkpointed"]
        activations = (x["activations_per_image_and_view"] / 2**10 for x in (kept, checkpointed))
        first, second = (f"{a:,.0f}" for a in activations)
        rows.append(
            [
                f"{names[key]}, {found['batch_size']}", first,
                *(f"{kept[k] / 2**20:,.1f}" for k in ("bound", "step")),
                f"{found['step_over_bound']:.3f}",
                f"{found['step_over_1.05_bound_plus_views']:.3f}",
                f"{found['step_over_formula']:.3f}",
                f"{found['checkpointed_step_over_step']:.2f} (a: {second} KiB)",
            ]
        )  # fmt: skip
    heading = [
        "encoder, batch", "a, KiB", "bound, MiB", "step, MiB", "step / bound",
        "step / (1.05 bound + views)", "step / formula", "step with activation checkpointing",
    ]  # fmt: skip
    return markdown(heading, rows)


TABLES = {
    "peers": ("performance.md", peers_table), "split": ("performance.md", split_table),
    "aggregate": ("performance.md", aggregate_table),
    "precision": ("performance.md", precision_table), "growth": ("performance.md", growth_table),
    "other": ("performance.md", other_table), "memory": ("scaling.md", memory_table),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    code = rewrite(__doc__.splitlines()[0], DOCS, TABLES, arguments)
    if "--check" not in (arguments if arguments is not None else sys.argv):
        write_atomic(RESULTS / "peers-cpu.svg", plot())
    return code


if __name__ == "__main__":
    sys.exit(main())
