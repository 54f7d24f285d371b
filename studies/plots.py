"""The pictures of the pages, the same bytes from the same results."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from studies.benchmark_tables import CONTENDERS, benchmark
from studies.pivot import read
from studies.signal_theory import free_signal, shared_optimum
from vje_pyro.atomic import write_atomic
from vje_pyro.reading import read_csv


def peers(results: Path) -> Figure:
    """Times over the bound's of VJE and lightly's methods."""
    content = benchmark(results, "peers")
    sizes = content["settings"]["image_sizes"]
    figure = Figure(figsize=(7, 1 + len(sizes)), layout="constrained")
    all_axes = figure.subplots(len(sizes), sharex=True, squeeze=False)[:, 0]
    for axes, size in zip(all_axes, sizes, strict=True):
        ratios = [content["figures"][f"{size}px_{name}_to_bound"] for name in CONTENDERS]
        errors = [
            [ratio["value"] - ratio["low"] for ratio in ratios],
            [ratio["high"] - ratio["value"] for ratio in ratios],
        ]
        values, colors = [ratio["value"] for ratio in ratios], ["C0", "C1", "C1"]
        axes.barh(list(CONTENDERS.values()), values, xerr=errors, color=colors, capsize=3)
        axes.axvline(1, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(f"{size} pixels", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[-1].set_xlabel("time of a step over the bound's")
    return figure


def curve(results: Path) -> Figure:
    """Learning curves of all of CIFAR-10, from ``logs/epochs.csv`` of the runs."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for path in sorted((results / "curves").glob("cifar10_cpu-*.csv"), reverse=True):
        rows = read_csv(path)
        _, method, seed = path.stem.split("-")
        for axis, name in zip(axes, ("knn", "rankme"), strict=True):
            epochs, values = ([float(row[k]) for row in rows] for k in ("epoch", name))
            label = f"{method}, seed {seed.removeprefix('seed')}"
            axis.plot(epochs, values, "o-", ms=3, label=label)
    for axis, label in zip(axes, ("kNN accuracy of the monitor", "RankMe"), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
    axes[0].legend()
    return figure


def signal(results: Path) -> Figure:
    """Signal of the posterior, and E z² of a feature, by β and by ν: theory and runs."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    betas, dfs = np.linspace(0.03, 1, 40), np.geomspace(0.7, 1500, 30)
    for column, study, values in ((0, "beta", betas), (1, "df", dfs)):
        runs = [(float(v), r.figures) for v, r in read(results, study, "signal")]
        cosine = float(np.mean([figures["cosine"].value for _, figures in runs] or [0.5]))
        optima = [
            shared_optimum(x, cosine) if study == "beta" else shared_optimum(1.0, cosine, x / 256)
            for x in values
        ]
        for row, name in enumerate(("signal", "second_moment")):
            axes = grid[row, column]
            theory = [getattr(optimum, name) for optimum in optima]
            axes.plot(values, theory, color="black", label="theory, scale shared")
            for x, figures in runs:
                axes.plot(x, figures[name].value, "o", color="C0")
            axes.plot([], [], "o", color="C0", label="trained")
    cosine = float(np.mean([r.figures["cosine"].value for _, r in read(results, "beta")] or [0.5]))
    free = free_signal(betas, cosine)
    grid[0, 0].plot(betas, free, "--", color="grey", label="theory, free scale")
    grid[0, 0].set(ylabel="signal a", ylim=(-0.02, 1), title="projected normal law")
    grid[0, 1].set(title="Student-t subdensity, β = 1")
    grid[1, 0].set(xlabel="β", ylabel="E z² of a feature", ylim=(0, None))
    grid[1, 1].set(xlabel="ν (D = 256)", xscale="log")
    grid[0, 0].legend(frameon=False)
    return figure


PLOTS: dict[str, Callable[[Path], Figure]] = {
    "benchmarks/peers-cpu.svg": peers,
    "curves/cifar10_cpu.svg": curve,
    "curves/signal.svg": signal,
}


def svg(figure: Figure) -> str:
    """A picture as text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vje-pyro", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def draw(results: Path) -> None:
    """All pictures."""
    for name, make in PLOTS.items():
        write_atomic(results / name, svg(make(results)))
