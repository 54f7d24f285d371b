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
    "bound": "the bound", "vje": "VJE", "lightly_simsiam": "lightly, SimSiam",
    "lightly_vicreg": "lightly, VICReg",
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
    """Images per second, and ratios to the bound and to VJE."""
    content = read("peers")
    figures, rows = content["figures"], []
    for size in sizes(content):
        for name, shown in CONTENDERS.items():
            bound = figures.get(f"{size}px_{name}_to_bound")
            speed = figures.get(f"{size}px_vje_speed_over_{name}")
            rows.append(
                [
                    str(size), shown, show(figures[f"{size}px_{name}_images_per_second"], 0),
                    show(bound) if bound else "1", show(speed) if speed else "",
                ]
            )  # fmt: skip
    return markdown(
        ["pixels", "what", "images / s", "time over the bound's", "VJE's speed over its"], rows
    )


def split_table() -> str:
    """Shares of a step."""
    content = read("peers")
    figures = content["figures"]
    rows = [
        [shown, *(show(figures[f"{size}px_share_{piece}"], 1, 100) for size in sizes(content))]
        for piece, shown in {**PIECES, "whole_head": "*the whole head*"}.items()
    ]
    compiled = [f"{size}px_compiled_head_share_whole_head" for size in sizes(content)]
    rows.append(["*the whole head, compiled*", *(show(figures[k], 1, 100) for k in compiled)])
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


def growth_table() -> str:
    """Milliseconds an image, and the ratio to the bound."""
    figures = read("growth")["figures"]
    rows = []
    for name in figures:
        if name.endswith("_to_bound"):
            case = name.removesuffix("_to_bound")
            what, value = case.split("_")
            shown = {"batch": "batch size", "dim": "dimension D", "pixels": "image size"}[what]
            rows.append([shown, value, show(figures[f"{case}_ms_per_image"]), show(figures[name])])
    return markdown(["what changes", "to", "ms / image", "time over the bound's"], rows)


def other_table() -> str:
    """Processes, scoring and start-up."""
    figures = {
        k: v for part in ("ranks", "scoring", "startup") for k, v in read(part)["figures"].items()
    }
    kinds = {
        "ranks_1_images_per_second": ("training, one process", "images / s", 0),
        "ranks_2_images_per_second": ("training, two processes", "images / s", 0),
        "embed_images_per_second": ("embedding", "images / s", 0),
        "log_likelihood_1_to_embed": ("log-likelihood, 1 sample", "time over embedding's", 2),
        "log_likelihood_16_to_embed": ("log-likelihood, 16 samples", "time over embedding's", 2),
        "help_s": ("`vje --help`", "s", 2),
        "import_torch_s": ("`import torch`", "s", 2),
        "train_help_s": ("`vje train --help`", "s", 2),
    }
    rows = [[what, unit, show(figures[k], digits)] for k, (what, unit, digits) in kinds.items()]
    return markdown(["what", "unit", "median [quartiles]"], rows)


def plot() -> str:
    """Images per second of all contenders as SVG, the same bytes from the same figures."""
    content = read("peers")
    figures = content["figures"]
    plot = Plot(figsize=(7, 1.1 + 1.1 * len(sizes(content))), layout="constrained")
    for axes, size in zip(
        plot.subplots(len(sizes(content)), squeeze=False)[:, 0], sizes(content), strict=True
    ):
        rates = [figures[f"{size}px_{name}_images_per_second"] for name in CONTENDERS]
        values = [rate["value"] for rate in rates]
        errors = [
            [rate["value"] - rate["low"] for rate in rates],
            [rate["high"] - rate["value"] for rate in rates],
        ]
        colors = ["0.7", "C0", "C1", "C1"]
        axes.barh(list(CONTENDERS.values()), values, xerr=errors, color=colors, capsize=3)
        axes.invert_yaxis()
        axes.set_title(f"{size} pixels", loc="left", fontsize="medium")
        axes.set_xlabel("images / s")
        axes.spines[["top", "right"]].set_visible(False)
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
    "aggregate": ("performance.md", aggregate_table), "growth": ("performance.md", growth_table),
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
